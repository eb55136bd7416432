"""Sentence embeddings of a column of texts, as an op for an actor."""

import pyarrow as pa
import pyarrow.compute as pc

from engine.dedup.vectors import column
from engine.inference.sentence_encoder import SentenceEncoder
from engine.inference.weights import Weights

AT_ONCE = 4_096  # rows of a batch; the encoder sorts them by length, because a model pads its input to the longest text


class TextEmbedder:
    """Appends `embedding`, the unit vector of each text. One per actor: the model loads once, then batches stream through."""

    def __init__(self, folder: Weights, device: str = "cpu", text: str = "text") -> None:
        """Raises ModelError if the folder is no sentence-transformers model."""
        self.model = SentenceEncoder(folder, device)
        self.text = text

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return `rows` with `embedding`, 4 bytes times dimensions a row; null is embedded as an empty text."""
        return rows.append_column("embedding", column(self.model(pc.fill_null(rows[self.text], "").to_pylist())))
