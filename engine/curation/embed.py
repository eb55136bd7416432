"""Sentence embeddings of prompts: unit vectors whose inner product is their similarity."""

from pathlib import Path

import pyarrow as pa

from engine.models.sentences import Sentences
from engine.rows import EMBEDDING, grow

SHOWN = 400  # characters of a prompt that go with its embedding, for the words that describe a cluster
EMBEDDED = grow(  # about 2 KB a row with 384 dimensions
    EMBEDDING,
    ("answer_id", pa.string()),
    ("text", pa.string()),
    ("scenario", pa.string()),
    ("confidence", pa.float32()),
    ("agreement", pa.float32()),
    ("length", pa.int64()),
)


class Embedder:
    """Embeds the texts of a table. One per actor: the model loads once, then batches stream through."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Raises ModelError if the folder is no sentence-transformers model."""
        self.model = Sentences(folder, device)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return EMBEDDED: `rows` with `embedding`, texts cut to SHOWN characters."""
        texts = rows["text"].to_pylist()
        vectors = self.model(texts)
        rows = rows.set_column(rows.column_names.index("text"), "text", pa.array([text[:SHOWN] for text in texts], pa.string()))
        rows = rows.append_column("embedding", pa.array(list(vectors), pa.list_(pa.float32())))
        return rows.select(EMBEDDED.names).cast(EMBEDDED)
