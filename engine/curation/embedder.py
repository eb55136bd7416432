"""Embeddings of prompts, and of their answers and rationales if the contract compares them."""

import itertools

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Part
from engine.contract.signals import SIGNALS
from engine.curation.contamination import COLUMNS, POSITION
from engine.curation.represent import parts_of
from engine.dedup.vectors import column
from engine.inference.sentence_encoder import SentenceEncoder
from engine.inference.weights import Weights
from engine.rows import EMBEDDING, grow

SHOWN = 400  # characters of a prompt that are kept with its embedding, for the words that describe a cluster
EMBEDDED = grow(  # about 2 KB a row with 384 dimensions, 1.5 KB more for each further part
    EMBEDDING,
    ("answer_embedding", pa.list_(pa.float32())),  # null unless answers are compared with evaluation lists
    ("rationale_embedding", pa.list_(pa.float32())),  # null likewise, and if there is none
    ("answer_id", pa.string()),
    ("text", pa.string()),
    ("task_unit", pa.string()),
    ("layer", pa.string()),
    ("difficulty", pa.string()),
    ("scenario", pa.string()),
    ("confidence", pa.float32()),
    ("agreement", pa.float32()),
    ("length", pa.int64()),
    ("mean_nll", pa.float32()),  # of the teacher's answer, nats a token; null if it is not known
    *((name, pa.float32()) for name in SIGNALS),
)


class CurationEmbedder:
    """Embeds the texts of a table. One per actor: the model loads once, then batches stream through."""

    def __init__(self, folder: Weights, device: str = "cpu", parts: tuple[Part, ...] = ()) -> None:
        """Raises ModelError if the folder is no sentence-transformers model."""
        self.model = SentenceEncoder(folder, device)
        self.parts = parts

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return EMBEDDED: `rows` with embeddings, texts cut to SHOWN characters."""
        columns = {"embedding": column(self.model(rows["text"].to_pylist()))}
        split = [parts_of(answer) for answer in rows["answer"].to_pylist()]
        for part, number in POSITION.items():
            texts = [parts[number] for parts in split] if part in self.parts else [""] * len(rows)
            columns[COLUMNS[part]] = self._some(texts)
        columns["text"] = pc.utf8_slice_codeunits(rows["text"], 0, SHOWN)
        return pa.table({name: columns[name] if name in columns else rows[name] for name in EMBEDDED.names}).cast(EMBEDDED)

    def _some(self, texts: list[str]) -> pa.Array:
        """Return the embeddings of `texts`, null for an empty text."""
        vectors, count = column(self.model([text for text in texts if text])), itertools.count()
        return vectors.take(pa.array([next(count) if text else None for text in texts], pa.int64()))
