"""Embeddings of what curation compares by meaning: prompts, and where the contract asks for it their answers and rationales."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Part
from engine.contract.signals import SIGNALS
from engine.curation.contamination import COLUMNS, PLACES
from engine.curation.represent import parts_of
from engine.dedup.vectors import column
from engine.inference.sentence_encoder import SentenceEncoder
from engine.rows import EMBEDDING, grow

SHOWN = 400  # characters of a prompt that go with its embedding, for the words that describe a cluster
EMBEDDED = grow(  # about 2 KB a row with 384 dimensions, 1.5 KB more for each further part
    EMBEDDING,
    ("answer_embedding", pa.list_(pa.float32())),  # null unless answers are compared with evaluation lists
    ("rationale_embedding", pa.list_(pa.float32())),  # null likewise, and where there is none
    ("answer_id", pa.string()),
    ("text", pa.string()),
    ("task_unit", pa.string()),
    ("layer", pa.string()),
    ("difficulty", pa.string()),
    ("scenario", pa.string()),
    ("confidence", pa.float32()),
    ("agreement", pa.float32()),
    ("length", pa.int64()),
    ("surprise", pa.float32()),  # nats a token of the teacher's answer; null if they are not known
    *((name, pa.float32()) for name in SIGNALS),
)


class Embedder:
    """Embeds the texts of a table. One per actor: the model loads once, then batches stream through."""

    def __init__(self, folder: Path, device: str = "cpu", parts: tuple[Part, ...] = ()) -> None:
        """Raises ModelError if the folder is no sentence-transformers model."""
        self.model = SentenceEncoder(folder, device)
        self.parts = parts

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return EMBEDDED: `rows` with embeddings, texts cut to SHOWN characters."""
        found = {"embedding": column(self.model(rows["text"].to_pylist()))}
        said = [parts_of(answer) for answer in rows["answer"].to_pylist()]
        for part, number in PLACES.items():
            texts = [parts[number] for parts in said] if part in self.parts else [""] * len(rows)
            found[COLUMNS[part]] = self._some(texts)
        found["text"] = pc.utf8_slice_codeunits(rows["text"], 0, SHOWN)
        return pa.table({name: found[name] if name in found else rows[name] for name in EMBEDDED.names}).cast(EMBEDDED)

    def _some(self, texts: list[str]) -> pa.Array:
        """The embeddings of `texts`, null for one that is empty."""
        here = [number for number, text in enumerate(texts) if text]
        vectors = column(self.model([texts[number] for number in here]))
        where: list[int | None] = [None] * len(texts)
        for place, number in enumerate(here):
            where[number] = place
        return vectors.take(pa.array(where, pa.int64()))
