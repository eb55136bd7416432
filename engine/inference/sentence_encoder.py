"""Sentence embeddings, for the similarity of texts in meaning. Never in one process with vLLM."""

import time
from collections.abc import Iterator, Sequence

import numpy as np

from engine.calls import ModelCall, called
from engine.errors import ModelError
from engine.inference.weights import Weights, local

MAX_BATCH_CHARS = {"cpu": 4_096, "cuda": 262_144}  # characters of a batch, padding included


class SentenceEncoder:
    """A loaded sentence-transformers model."""

    def __init__(self, folder: Weights, device: str = "cpu") -> None:
        """Load the model in `folder`, which is fetched to this node if need be.

        Raises:
            ModelError: `folder` holds no sentence-transformers model.
            StorageError: it cannot be fetched.
        """
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        if device == "cpu":
            torch.set_num_threads(1)
        self.device = device
        folder = local(folder)
        try:
            self.model = SentenceTransformer(str(folder), device=device, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{folder} is no sentence-transformers model: {error}. Change the embedding model in the contract."
            ) from None
        self.dimensions = self.model.get_embedding_dimension() or len(self.model.encode(""))
        self.max_chars = 5 * (self.model.max_seq_length or 1 << 20)  # about as many as the model reads of a text

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, (texts, dimensions) float32: the inner product of two is the cosine similarity of their texts.

        Texts of similar length are computed together: the more `texts`, the less padding.
        """
        start = time.perf_counter()
        out = np.empty((len(texts), self.dimensions), np.float32)
        lengths = np.minimum(np.fromiter(map(len, texts), np.int64, len(texts)), self.max_chars)
        for rows in _batches(lengths, MAX_BATCH_CHARS[self.device]):
            batch = [texts[row] for row in rows.tolist()]
            out[rows] = self.model.encode(batch, batch_size=len(batch), normalize_embeddings=True, show_progress_bar=False)
        called(ModelCall("embed", time.perf_counter() - start, len(texts), int(lengths.sum())))  # characters in place of tokens
        return out


def _batches(lengths: np.ndarray, max_chars: int) -> Iterator[np.ndarray]:
    """Yield row numbers, the longest texts first; rows times the longest length are at most `max_chars`, or there is one row."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, max_chars // max(1, int(lengths[order[start]])))
        yield order[start : start + count]
        start += count
