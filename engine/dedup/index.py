"""Signatures kept between runs, so that new documents are compared with old ones whose texts are not read again.

    INDEX/batch-00000/part-00000.parquet   id, listed, text, minima, and the columns by which a keeper is chosen
    INDEX/batch-00000/record.json          the recipe and the number of rows; a batch without it is none

A document takes 4 bytes a permutation and 8 for its text, and what its id takes. The keys of the bands are cut again from the
signatures; buckets, components and keepers are found over all batches, as if they had come at once.
"""

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.dedup.signature import Signed
from engine.errors import RecipeMismatch, StorageError
from engine.storage.shards import Folder

RECORD = "record.json"
VERSION = 2  # of what is hashed, and how


@dataclass(frozen=True)
class Stored:
    """A part of an earlier batch."""

    folder: Folder
    name: str
    batch: int
    kind: str  # numpy's name of the type of what is kept of a text

    def sign(self) -> Signed:
        """Read the part back.

        Raises:
            StorageError: it is damaged or missing.
        """
        try:
            table = pq.read_table(io.BytesIO(self.folder.read(self.name)), use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise StorageError(f"{self.folder}/{self.name}: damaged: {error}. Make the index again.") from None
        minima = np.empty((len(table), 0), self.kind)
        if "minima" in table.column_names:
            values = table["minima"].combine_chunks()
            minima = np.frombuffer(values.buffers()[1], self.kind).reshape(len(table), -1)
        by = [name for name in table.column_names if name not in ("id", "listed", "text", "minima")]
        came_with = pa.repeat(pa.scalar(self.batch, pa.int32()), len(table))
        rows = pa.table({"id": table["id"], "batch": came_with, **{name: table[name] for name in ("listed", *by)}})
        return Signed(rows, table["text"].to_numpy(), minima)


@dataclass(frozen=True)
class Index:
    """The batches of an index folder that are complete."""

    folder: Folder
    recipe: dict[str, Any]
    batches: tuple[dict[str, Any], ...]
    kind: str

    @property
    def rows(self) -> int:
        """Documents of all batches."""
        return sum(one["rows"] for one in self.batches)

    @property
    def next(self) -> Folder:
        """Where the next batch goes."""
        return self.folder / f"batch-{len(self.batches):05d}"

    def parts(self) -> list[Stored]:
        """Return what is stored, oldest first."""
        return [
            Stored(self.folder / f"batch-{number:05d}", name, number, self.kind)
            for number, one in enumerate(self.batches)
            for name in one["parts"]
        ]

    def add(self, parts: list[str], rows: int) -> None:
        """Make the parts that were written to `next` a batch."""
        record = {"recipe": self.recipe, "rows": rows, "parts": parts}
        self.next.write(RECORD, json.dumps(record, indent=1).encode())


def open_index(path: Folder, recipe: dict[str, Any], *, kind: str = "uint32") -> Index:
    """Return the index in the folder `path`, which may be empty yet; of signatures, or of embeddings (`kind` float32).

    Raises:
        RecipeMismatch: it was made by another recipe.
        StorageError: a record is damaged.
    """
    recipe = json.loads(json.dumps({"version": VERSION, **recipe}))
    batches: list[dict[str, Any]] = []
    while (folder := path / f"batch-{len(batches):05d}").exists(RECORD):
        try:
            found = json.loads(folder.read(RECORD))
        except ValueError as error:
            raise StorageError(f"{folder}/{RECORD}: is not JSON: {error}. Make the index again.") from None
        for name in recipe:
            if found["recipe"].get(name) != recipe[name]:
                raise RecipeMismatch(
                    f"{folder}: was made with {name} {found['recipe'].get(name)!r}, found {recipe[name]!r}. "
                    "Use the same, or a new index."
                )
        batches.append(found)
    return Index(path, recipe, tuple(batches), kind)


def part(signed: Signed, lost: np.ndarray) -> bytes:
    """Return the file of a part; rows `lost`, by number, are known copies and will not be listed again."""
    listed = np.ones(len(signed.text), bool)
    listed[lost] = False
    rows = signed.rows.drop_columns(["batch", "listed"]).append_column("listed", pa.array(listed))
    rows = rows.append_column("text", pa.array(signed.text))
    if width := signed.minima.shape[1] * 4:
        data = pa.py_buffer(np.ascontiguousarray(signed.minima))
        rows = rows.append_column("minima", pa.Array.from_buffers(pa.binary(width), len(rows), [None, data]))
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, compression="none", use_dictionary=False)  # hashes do not compress
    return buffer.getvalue()
