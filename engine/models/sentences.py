"""Sentence embeddings: how alike two texts are in meaning. Never in one process with vLLM."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.errors import ModelError


class Sentences:
    """A loaded sentence-transformers model."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Raises ModelError if the folder is no sentence-transformers model."""
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        if device == "cpu":
            torch.set_num_threads(1)
        try:
            self.model = SentenceTransformer(str(folder), device=device, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{folder}: is no sentence-transformers model: {error}. Mend the embedding model that the contract names."
            ) from None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return a unit vector for each text, (texts, dimensions) float32: their inner product is their similarity."""
        if not texts:
            return np.empty((0, 1), np.float32)
        return np.asarray(self.model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False), np.float32)
