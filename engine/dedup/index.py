"""Signatures kept between runs, so that new documents are compared with older ones whose texts are not read again.

    INDEX/batch-00000/part-00000.parquet   id, listed, text, signature, and the columns of the order
    INDEX/batch-00000/record.json          records.dedup.IndexBatch; a batch without it is incomplete and ignored

A document takes 4 bytes a permutation, 8 bytes for its text, and its id. Band keys are computed again from the signatures; buckets,
components and representatives are found over all batches, as if they had come at once.
"""

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from engine.dedup.signature import SignedBlock
from engine.errors import RecipeMismatch, StorageError
from engine.readers.schemas import conform, plain
from engine.records.dedup import IndexBatch, IndexRecipe
from engine.storage.folder import Folder

RECORD = "record.json"
VERSIONS = {"uint32": 2, "float32": 3}  # kind -> version of what is stored
SIGNATURE = ("signature", "minima")  # the column, and its name in older parts


@dataclass(frozen=True)
class Stored:
    """A part of an earlier batch."""

    folder: Folder
    name: str
    batch: int
    kind: str  # NumPy type of the signatures

    def signed(self) -> SignedBlock:
        """Read the part.

        Raises:
            StorageError: it is damaged or missing.
        """
        try:
            table = pq.read_table(io.BytesIO(self.folder.read(self.name)), use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise StorageError(f"{self.folder}/{self.name}: damaged: {error}. Make the index again.") from None
        signatures = np.empty((len(table), 0), self.kind)
        for column in set(SIGNATURE) & set(table.column_names):
            values = table[column].combine_chunks()
            signatures = np.frombuffer(values.buffers()[1], self.kind).reshape(len(table), -1)
        order = [name for name in table.column_names if name not in ("id", "listed", "text", *SIGNATURE)]
        batch, listed, text = pa.repeat(pa.scalar(self.batch, pa.int32()), len(table)), table["listed"], table["text"].to_numpy()
        table = conform(table, pa.schema([(name, plain(table.schema.field(name).type)) for name in ("id", *order)]))
        rows = pa.table({"id": table["id"], "batch": batch, "listed": listed, **{name: table[name] for name in order}})
        return SignedBlock(rows, text, signatures)


@dataclass(frozen=True)
class Index:
    """The complete batches of an index folder."""

    folder: Folder
    recipe: IndexRecipe
    batches: tuple[IndexBatch, ...]
    kind: str

    @property
    def rows(self) -> int:
        """Documents of all batches."""
        return sum(batch.rows for batch in self.batches)

    @property
    def next(self) -> Folder:
        """The folder of the next batch."""
        return self.folder / f"batch-{len(self.batches):05d}"

    def parts(self) -> list[Stored]:
        """Return the stored parts, oldest first."""
        return [
            Stored(self.folder / f"batch-{number:05d}", name, number, self.kind)
            for number, batch in enumerate(self.batches)
            for name in batch.parts
        ]

    def add(self, parts: list[str], rows: int) -> None:
        """Make the `parts` that were written to `next` a complete batch."""
        record = IndexBatch(recipe=self.recipe, rows=rows, parts=tuple(parts))
        self.next.write(RECORD, record.model_dump_json(indent=1).encode())


def open_index(path: Folder, recipe: IndexRecipe, kind: str = "uint32") -> Index:
    """Return the index in the folder `path`, which may be empty; `kind` is float32 for embeddings.

    Raises:
        RecipeMismatch: it was made with other settings, or its version is another.
        StorageError: a record is damaged.
    """
    batches: list[IndexBatch] = []
    while batch := _batch(folder := path / f"batch-{len(batches):05d}"):
        for name in IndexRecipe.model_fields:
            stored, expected = getattr(batch.recipe, name), getattr(recipe, name)
            if stored != expected:
                raise RecipeMismatch(
                    f"{folder}: found an index made with {name} {stored!r}, expected {expected!r}. "
                    "Use the settings of the index, or give --index a new folder."
                )
        batches.append(batch)
    return Index(path, recipe, tuple(batches), kind)


def normalization_of(path: Folder) -> str | None:
    """Return the Unicode form in which the index in the folder `path` compares texts; None if it has no batch yet.

    Raises:
        StorageError: its first record is damaged.
    """
    first = _batch(path / "batch-00000")
    return first and first.recipe.normalization


def _batch(folder: Folder) -> IndexBatch | None:
    if not folder.exists(RECORD):
        return None
    try:
        return IndexBatch.model_validate_json(folder.read(RECORD))
    except ValidationError as error:
        raise StorageError(f"{folder}/{RECORD}: is no record of a batch: {error}. Make the index again.") from None


def part(signed: SignedBlock, lost: np.ndarray) -> bytes:
    """Return the Parquet file of a part; rows `lost`, by number, are known duplicates and will not be listed again."""
    listed = np.ones(len(signed.text_keys), bool)
    listed[lost] = False
    rows = signed.rows.drop_columns(["batch", "listed"]).append_column("listed", pa.array(listed))
    rows = rows.append_column("text", pa.array(signed.text_keys))
    if width := signed.signatures.shape[1] * 4:
        data = pa.py_buffer(np.ascontiguousarray(signed.signatures))
        rows = rows.append_column(SIGNATURE[0], pa.Array.from_buffers(pa.binary(width), len(rows), [None, data]))
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, compression="none", use_dictionary=False)  # hashes do not compress
    return buffer.getvalue()
