"""What the engine keeps of a document instead of its text: 8 bytes of its normal form, and its signature or its embedding."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.prompts import Copies
from engine.dedup.corpus import Block, read
from engine.dedup.minhash import exact_keys, signatures
from engine.errors import InputError
from engine.inference.sentence_encoder import SentenceEncoder

LENGTH, PLACE = "characters of the text", "file and row"  # columns of ours, beside those of the corpus


class Meaning(NamedTuple):
    """Texts are copies of each other where a sentence-transformers model puts them near."""

    folder: Path
    threshold: float  # cosine
    device: str = "cpu"


Matcher = Copies | Meaning | None
"""What joins texts that are not equal, if anything does."""


class Signed(NamedTuple):
    """Documents of a block, without their texts."""

    rows: pa.Table  # `id`, `batch`, `listed` and the columns by which a keeper is chosen
    text: np.ndarray  # (rows,) uint64: the hash of the normal form, by which equal texts are one
    minima: np.ndarray  # (rows, num_perm) uint32, or unit vectors of float32; (rows, 0) where only equal texts are looked for


def came(rows: int, *, batch: int = 0, listed: bool = True) -> dict[str, pa.Array]:
    """Return the columns that say of documents with which batch they came, and whether they are listed if they do not stay."""
    return {"batch": pa.repeat(pa.scalar(batch, pa.int32()), rows), "listed": pa.repeat(pa.scalar(listed), rows)}


class Reading(NamedTuple):
    """How documents are read."""

    schema: pa.Schema
    text: str  # column
    id: str | None  # column; None: file and row
    by: tuple[str, ...]  # columns by which a keeper is chosen, LENGTH among them if it is needed; signed as `by 0`, `by 1` ...
    alike: Matcher


@dataclass(frozen=True)
class Documents:
    """A block of texts, of which keepers of an earlier `batch` win."""

    block: Block
    reading: Reading
    batch: int
    listed: bool  # in the table of duplicates, if they do not stay

    def sign(self) -> Signed:
        """Read and sign the block.

        Raises:
            InputError: a file cannot be read, the text is no text, or an id is missing.
        """
        how = self.reading
        names = dict.fromkeys(name for name in (how.text, how.id, *how.by) if name and name != LENGTH)
        table = read(self.block, how.schema, list(names), row_id=None if how.id else PLACE)
        ids, texts = table[how.id or PLACE], table[how.text].cast(pa.large_string())
        if ids.null_count:
            raise InputError(f"{self.block[0].url}: {ids.null_count} rows have no {how.id!r}, expected one in each. Fill it.")
        if LENGTH in how.by:
            table = table.append_column(LENGTH, pc.utf8_length(pc.fill_null(texts, "")))
        rows = {"id": ids, **came(len(ids), batch=self.batch, listed=self.listed)}
        rows |= {f"by {number}": table[name] for number, name in enumerate(how.by)}
        return Signed(pa.table(rows), exact_keys(texts), sign(texts, how.alike))


def sign(texts: pa.ChunkedArray, alike: Matcher) -> np.ndarray:
    """Return the signatures or the embeddings of `texts`, string or large_string; null counts as empty."""
    if isinstance(alike, Meaning):
        return _model(alike.folder, alike.device)(pc.fill_null(texts, "").to_pylist())
    return signatures(texts, alike) if alike else np.empty((len(texts), 0), np.uint32)


@cache
def _model(folder: Path, device: str) -> SentenceEncoder:
    """A process that signs several blocks loads the model once."""
    return SentenceEncoder(folder, device)
