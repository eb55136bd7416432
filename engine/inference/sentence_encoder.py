"""Sentence embeddings: how alike two texts are in meaning. Never in one process with vLLM."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from engine.errors import ModelError

CHARS_AT_ONCE = {"cpu": 4_096, "cuda": 262_144}  # characters, padding included, that the model is given at once


class SentenceEncoder:
    """A loaded sentence-transformers model."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Raises ModelError if the folder is no sentence-transformers model."""
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        if device == "cpu":
            torch.set_num_threads(1)
        self.device = device
        try:
            self.model = SentenceTransformer(str(folder), device=device, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{folder}: is no sentence-transformers model: {error}. Mend the embedding model that the contract names."
            ) from None
        self.dimensions = self.model.get_embedding_dimension() or len(self.model.encode(""))
        self.most_chars = 5 * (self.model.max_seq_length or 1 << 20)  # about what the model reads of a text

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return a unit vector for each text, (texts, dimensions) float32: their inner product is their similarity.

        Texts of about the same length are computed together: the more there are in `texts`, the less is padded.
        """
        out = np.empty((len(texts), self.dimensions), np.float32)
        lengths = np.minimum(np.fromiter(map(len, texts), np.int64, len(texts)), self.most_chars)
        for rows in _batches(lengths, CHARS_AT_ONCE[self.device]):
            given = [texts[row] for row in rows.tolist()]
            out[rows] = self.model.encode(given, batch_size=len(given), normalize_embeddings=True, show_progress_bar=False)
        return out


def _batches(lengths: np.ndarray, chars: int) -> Iterator[np.ndarray]:
    """Yield row numbers, the longest texts first, so that rows times the longest stay within `chars`."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, chars // max(1, int(lengths[order[start]])))
        yield order[start : start + count]
        start += count
