"""The engine's replacement for a document's text: 8 bytes of its normalized form, and its MinHash signature or its embedding."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.prompts import Copies, Normalization
from engine.dedup.corpus import Block, read
from engine.dedup.minhash import minhash, text_keys
from engine.errors import InputError
from engine.readers.schemas import plain

if TYPE_CHECKING:
    from engine.inference.sentence_encoder import SentenceEncoder

LENGTH, FILE_AND_ROW = "characters of the text", "file and row"  # computed columns; no column of a corpus has such a name


class SemanticMatcher(NamedTuple):
    """Texts match if their embeddings have at least a cosine of `threshold`."""

    folder: Path  # of a sentence-transformers model
    threshold: float
    device: str = "cpu"


Matcher = Copies | SemanticMatcher | None
"""When two texts that are not equal match: by MinHash, by embedding, or never."""


class SignedBlock(NamedTuple):
    """The documents of a block without their texts."""

    rows: pa.Table  # `id`, `batch`, `listed` and the columns of the order
    text_keys: np.ndarray  # (rows,) uint64: the hash of the normalized text; equal texts are one node
    signatures: np.ndarray  # (rows, num_perm) uint32, or unit vectors of float32; (rows, 0) if only equal texts match


def batch_columns(rows: int, *, batch: int = 0, listed: bool = True) -> dict[str, pa.Array]:
    """Return the columns `batch`, with which the documents came, and `listed`, whether duplicates among them are listed."""
    return {"batch": pa.repeat(pa.scalar(batch, pa.int32()), rows), "listed": pa.repeat(pa.scalar(listed), rows)}


class ReadOptions(NamedTuple):
    """How documents are read."""

    schema: pa.Schema
    text: str  # column
    id: str | None  # column; None: file and row
    keep_by: tuple[str, ...]  # columns of the order, LENGTH among them if it is needed; stored as `by 0`, `by 1` ...
    matcher: Matcher
    normalization: Normalization  # form in which texts are equal
    text_ids: bool = False  # whether ids are compared as text, so that a row without one can have file and row


class IdsMissing(InputError):
    """Rows have no id (null or NaN) in a column that is not text: ids have to be read as text, so that file and row can be one."""


@dataclass(frozen=True)
class Documents:
    """A block of texts. Documents of an earlier `batch` are kept first."""

    block: Block
    options: ReadOptions
    batch: int
    listed: bool  # in the table of duplicates

    def signed(self) -> SignedBlock:
        """Read the block and compute its signatures.

        Raises:
            InputError: a file cannot be read, or the text column holds no text.
            SchemaDrift: a row of JSONL does not fit the columns of the first rows.
            IdsMissing: a row has no id, and ids are no text.
        """
        options = self.options
        names = dict.fromkeys(name for name in (options.text, options.id, *options.keep_by) if name and name != LENGTH)
        table = read(self.block, options.schema, list(names), row_id=None if options.id else FILE_AND_ROW)
        ids, texts = table[options.id or FILE_AND_ROW], table[options.text].cast(pa.large_string())
        ids = ids.cast(pa.string() if options.text_ids else plain(ids.type))
        if options.id and pc.any(missing := pc.is_null(table[options.id], nan_is_null=True)).as_py():
            if not pa.types.is_string(ids.type):
                raise IdsMissing(f"{self.block[0].url}: rows have no {options.id!r}.")
            ids = pc.if_else(missing, read(self.block, options.schema, [options.id], row_id=FILE_AND_ROW)[FILE_AND_ROW], ids)
        if LENGTH in options.keep_by:
            table = table.append_column(LENGTH, pc.utf8_length(pc.fill_null(texts, "")))
        rows = {"id": ids, **batch_columns(len(ids), batch=self.batch, listed=self.listed)}
        rows |= {f"by {number}": table[name].cast(plain(table[name].type)) for number, name in enumerate(options.keep_by)}
        return SignedBlock(pa.table(rows), text_keys(texts, options.normalization), signatures_of(texts, options.matcher))


def signatures_of(texts: pa.ChunkedArray, matcher: Matcher) -> np.ndarray:
    """Return the MinHash signatures or the embeddings of `texts`, string or large_string; null counts as empty."""
    if isinstance(matcher, SemanticMatcher):
        return _model(matcher.folder, matcher.device)(pc.fill_null(texts, "").to_pylist())
    return minhash(texts, matcher) if matcher else np.empty((len(texts), 0), np.uint32)


@cache
def _model(folder: Path, device: str) -> "SentenceEncoder":
    """Return the model, which is loaded once in each process."""
    from engine.inference.sentence_encoder import SentenceEncoder

    return SentenceEncoder(folder, device)
