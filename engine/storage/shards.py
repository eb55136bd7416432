"""Parquet shards in a folder on disk or behind any fsspec URL: written whole, counted, hashed, read by column.

A shard is named after its content, so that a retried write replaces itself. It appears under its name only when it is complete.
"""

import hashlib
import io
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from fsspec.implementations.local import LocalFileSystem
from pydantic_core import to_json

from engine.errors import StorageError
from engine.rows import VERSION, conform
from engine.storage.migrations import MIGRATIONS

PIECE = 2**22  # bytes read at once


class Folder:
    """A folder at a local path or an fsspec URL. Picklable; opens its file system again where it lands."""

    def __init__(self, url: str) -> None:
        self.fs, path = fsspec.url_to_fs(str(url))
        self.path = path.rstrip("/")
        self.url = str(url).rstrip("/")

    def __reduce__(self) -> tuple[type["Folder"], tuple[str]]:
        return Folder, (self.url,)

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    @property
    def is_local(self) -> bool:
        """Whether renames are atomic here."""
        return isinstance(self.fs, LocalFileSystem)

    def exists(self, name: str = "") -> bool:
        """Return whether the file or folder `name` is there."""
        self.fs.invalidate_cache()
        return self.fs.exists(self._at(name))

    def read(self, name: str) -> bytes:
        """Return the bytes of the file `name`.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            return self.fs.cat_file(self._at(name))
        except OSError as error:
            raise StorageError(f"{self}/{name}: cannot be read: {error}.") from None

    def measure(self, name: str) -> dict[str, Any]:
        """Return `bytes` and `sha256` of the file `name`, read in pieces: weights may be larger than memory.

        Raises:
            StorageError: it cannot be read.
        """
        digest, size = hashlib.sha256(), 0
        try:
            with self.fs.open(self._at(name), "rb") as file:
                while piece := file.read(PIECE):
                    digest.update(piece)
                    size += len(piece)
        except OSError as error:
            raise StorageError(f"{self}/{name}: cannot be read: {error}.") from None
        return {"bytes": size, "sha256": digest.hexdigest()}

    def write(self, name: str, data: bytes) -> None:
        """Write `data` as the file `name`, whole or not at all.

        Raises:
            StorageError: the store is read-only or full.
        """
        target = self._at(name)
        try:
            self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            if not self.is_local:  # object stores show an object only when its upload is complete
                self.fs.pipe_file(target, data)
                return
            half = f"{target}.{uuid.uuid4().hex[:8]}.part"
            try:
                self.fs.pipe_file(half, data)
                self.fs.mv(half, target)
            except OSError:
                if self.fs.exists(half):
                    self.fs.rm(half)
                raise
        except OSError as error:
            raise StorageError(
                f"{self}/{name}: cannot be written: {error}. Make room or choose a run folder that can be written; then run again."
            ) from None

    def files(self, *, deep: bool = True) -> list[str]:
        """Return the paths of all files below, or of those in the folder itself, relative to this folder, sorted."""
        self.fs.invalidate_cache()
        if not self.fs.exists(self.path):
            return []
        found = self.fs.find(self.path, maxdepth=None if deep else 1)
        return sorted(path.removeprefix(self.path).lstrip("/") for path in found)

    def remove(self, name: str = "") -> None:
        """Remove the file or folder `name` if it is there."""
        if self.exists(name):
            with suppress(FileNotFoundError):  # another process was quicker
                self.fs.rm(self._at(name), recursive=True)

    def rename_to(self, other: "Folder") -> None:
        """Move this folder to `other`: at once on a local disk, file by file elsewhere."""
        if self.is_local:
            self.fs.makedirs(other.path.rpartition("/")[0], exist_ok=True)
            self.fs.mv(self.path, other.path)
            return
        for path in self.files():  # not one recursive move: s3fs would copy the folders too, which a store does not have
            self.fs.mv(self._at(path), other._at(path))

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path


class Shard(NamedTuple):
    """One file of a table, as its record lists it."""

    path: str
    rows: int
    bytes: int
    sha256: str


def write_shard(folder: Folder, table: pa.Table, schema: pa.Schema, *, prefix: str = "part") -> Shard:
    """Write `table` as one Parquet file of exactly `schema` into `folder`; the path is relative to `folder`."""
    buffer = io.BytesIO()
    pq.write_table(conform(table, schema), buffer, compression="zstd", write_page_index=True)
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    name = f"{prefix}-{digest[:20]}.parquet"
    folder.write(name, data)
    return Shard(path=name, rows=table.num_rows, bytes=len(data), sha256=digest)


def read_shard(folder: Folder, shard: Shard, columns: Sequence[str] | None = None, *, version: int = VERSION) -> pa.Table:
    """Return the rows of `shard`, written at schema `version`, as the current version has them; only `columns` if given.

    Raises:
        StorageError: the file is missing or is not Parquet.
    """
    wanted = list(columns) if columns else None
    try:
        with folder.fs.open(f"{folder.path}/{shard.path}", "rb") as file:
            # No threads: with those of read_table one process in forty aborts where it ends soon after.
            rows = pq.ParquetFile(file).read(columns=wanted if version == VERSION else None, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{folder}/{shard.path}: damaged or missing: {error}. Delete the artifact and run again.") from None
    for older in range(version, VERSION):
        rows = MIGRATIONS[older](rows)
    return rows.select(wanted) if wanted else rows


class Table(NamedTuple):
    """All shards of one table, as its record lists them."""

    schema_version: int
    rows: int
    bytes: int
    digest: str  # of the rows' ids in any order: equal for equal rows, however they are split into shards
    shards: list[Shard]

    @staticmethod
    def of(shards: Sequence[Shard], digest: str) -> "Table":
        """Return the table made of `shards`."""
        ordered = sorted(shards)
        return Table(VERSION, sum(s.rows for s in ordered), sum(s.bytes for s in ordered), digest, ordered)

    @staticmethod
    def from_json(raw: dict[str, Any]) -> "Table":
        """Return the table that `raw`, taken from a record, describes."""
        return Table(**{**raw, "shards": [Shard(**shard) for shard in raw["shards"]]})

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a record."""
        return {**self._asdict(), "shards": [shard._asdict() for shard in self.shards]}


def write_table(folder: Folder, table: pa.Table, schema: pa.Schema, *, shard_rows: int = 50_000) -> Table:
    """Write `table`, which fits in memory, as shards of at most `shard_rows` rows; an empty one still says its columns."""
    pieces = [table.slice(start, shard_rows) for start in range(0, max(table.num_rows, 1), shard_rows)]
    shards = [write_shard(folder, piece, schema) for piece in pieces]
    return Table.of(shards, hex_digest(rows_digest(table)))


def read_table(folder: Folder, table: Table, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Return all rows of `table`, only `columns` if given. For tables that fit in memory."""
    wanted = pa.schema([schema.field(name) for name in columns]) if columns else schema
    pieces = [conform(piece, wanted) for piece in iterate(folder, table, columns)]
    return pa.concat_tables(pieces) if pieces else wanted.empty_table()


def iterate(folder: Folder, table: Table, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield `table` shard by shard, migrated to the current schema version."""
    for shard in table.shards:
        yield read_shard(folder, shard, columns, version=table.schema_version)


def rows_digest(table: pa.Table) -> int:
    """Return the sum, modulo 2^128, of the hashes of the rows: the same for any order and any split into shards."""
    columns = sorted(column for column in table.column_names if column != "seconds")  # the clock is not content
    return sum(xxhash.xxh3_128_intdigest(to_json(row)) for row in table.select(columns).to_pylist()) % 2**128


def hex_digest(total: int) -> str:
    """Return a digest, or a sum of digests, as 32 hex digits."""
    return f"{total % 2**128:032x}"
