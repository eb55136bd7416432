"""Passages of a corpus by the words that they share with a query: TF-IDF vectors in FAISS, compared by inner product.

Words, not meanings: a sentence embedder must not share a process with vLLM, in which tools run. Exact search, and at most
16 KB a passage: for corpora of some ten thousand passages.
"""

import json
from collections.abc import Sequence

import fsspec
import numpy as np

from engine.contract.tools import Retrieval as RetrievalSection
from engine.errors import InputError
from engine.tools.base import Result, place

WORDS = 4096  # most frequent words that are told apart


class Retrieval:
    """Finds passages."""

    def __init__(self, section: RetrievalSection, root: str) -> None:
        """Raises InputError if the corpus cannot be read or holds no words."""
        import faiss
        from sklearn.feature_extraction.text import TfidfVectorizer

        where = place(section.corpus, root)
        self.top_k, self.texts = section.top_k, _read(where)
        self.words = TfidfVectorizer(sublinear_tf=True, max_features=WORDS)
        try:
            self.words.fit(self.texts)
        except ValueError:
            raise InputError(f"corpus {where}: holds no words, expected passages of text. Mend teachers.tools.") from None
        vectors = self._vectors(self.texts)
        self.index = faiss.IndexFlatIP(vectors.shape[1])
        self.index.add(vectors)
        self.description = "finds passages of a corpus that share words with the argument"

    def __call__(self, argument: str) -> Result:
        """Return at most `top_k` passages that share a word with `argument`, one a line, the nearest first."""
        shared, found = self.index.search(self._vectors([argument]), self.top_k)
        hits = [self.texts[number] for number, share in zip(found[0], shared[0], strict=True) if share > 0]
        return Result("\n".join(hits), True)

    def _vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors [texts, words]."""
        return self.words.transform(texts).toarray().astype(np.float32)


def _read(where: str) -> list[str]:
    try:
        with fsspec.open(where, "rt", encoding="utf-8") as file:
            return [json.loads(line)["text"] for line in file if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"corpus {where}: cannot be read: {error!r}. Give JSONL with `id` and `text` on each line.") from None
