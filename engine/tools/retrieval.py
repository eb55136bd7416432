"""Lexical retrieval of passages: TF-IDF vectors in an exact FAISS index, compared by inner product.

Not semantic, because tools run in the process of vLLM, which a sentence encoder must not share. A passage takes at most 16 KB of
memory: meant for corpora of some ten thousand passages.
"""

import json
from collections.abc import Sequence

import fsspec
import numpy as np

from engine.contract.tools import Retrieval as RetrievalSection
from engine.errors import InputError
from engine.readers.below import below
from engine.retry import with_retries
from engine.tools.base import Result

VOCABULARY = 4096  # most frequent words of the corpus


class Retrieval:
    """Finds the passages that share most words with a query."""

    def __init__(self, section: RetrievalSection, root: str) -> None:
        """Index the corpus. Raises InputError if it cannot be read or has no words."""
        import faiss
        from sklearn.feature_extraction.text import TfidfVectorizer

        where = below(root, section.corpus)
        self.top_k, self.texts = section.top_k, _read(where)
        self.vectorizer = TfidfVectorizer(sublinear_tf=True, max_features=VOCABULARY)
        try:
            self.vectorizer.fit(self.texts)
        except ValueError:
            raise InputError(f"corpus {where}: holds no words, expected passages of text. Correct teachers.tools.") from None
        vectors = self._vectors(self.texts)
        self.index = faiss.IndexFlatIP(vectors.shape[1])
        self.index.add(vectors)
        self.description = "finds passages of a corpus that share words with the argument"

    def __call__(self, argument: str) -> Result:
        """Return at most `top_k` passages that share a word with `argument`, one a line, the most similar first."""
        scores, numbers = self.index.search(self._vectors([argument]), self.top_k)
        hits = [self.texts[number] for number, score in zip(numbers[0], scores[0], strict=True) if score > 0]
        return Result("\n".join(hits), True)

    def _vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors [texts, vocabulary], float32."""
        return self.vectorizer.transform(texts).toarray().astype(np.float32)


def _read(where: str) -> list[str]:

    def read() -> list[str]:
        with fsspec.open(where, "rt", encoding="utf-8") as file:
            return [json.loads(line)["text"] for line in file if line.strip()]

    try:
        return with_retries(where, read) if "://" in where else read()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"corpus {where}: cannot be read: {error!r}. Give JSONL with `id` and `text` on each line.") from None
