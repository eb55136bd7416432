"""Paid work by content: what a model has answered is never asked again, whatever becomes of the stages behind it.

A ledger is a folder of Parquet files `<bucket>/<hash>.parquet`. A bucket holds the rows whose key begins with its hex digits, so
that a batch of neighbouring keys reads one or two buckets, never the whole. A file appears whole, under a name hashed from its
content: writing it twice is harmless, and no rename is needed on an object store.
"""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from engine.shards import Folder, Shard, read_shard, write_shard

ROWS_PER_BUCKET = 4096


class Ledger:
    """Rows of `schema`, found again by the column `key`; rows with equal `bucket_by` are read together."""

    def __init__(self, folder: Folder, schema: pa.Schema, *, key: str, bucket_by: str, expected_rows: int) -> None:
        self.folder, self.schema, self.key, self.bucket_by = folder, schema, key, bucket_by
        self.digits = _digits(expected_rows)
        self._loaded: dict[str, pa.Table] = {}

    def find(self, keys: Iterable[str], buckets: Iterable[str]) -> pa.Table:
        """Return the rows whose key is in `keys`, each once. `buckets` are the values of `bucket_by` they would have."""
        wanted = sorted({self._bucket(value) for value in buckets})
        self._loaded = {name: self._loaded.get(name) or self._load(name) for name in wanted}  # forget what lies behind
        rows = pa.concat_tables([self.schema.empty_table(), *self._loaded.values()])
        rows = rows.filter(pc.is_in(rows[self.key], pa.array(sorted(set(keys)), pa.string())))
        return _first_of_each(rows, self.key)

    def record(self, rows: pa.Table) -> None:
        """Make `rows` durable before anything else happens to them."""
        names = pa.array([self._bucket(value) for value in rows[self.bucket_by].to_pylist()])
        for name in pc.unique(names).to_pylist():
            write_shard(self.folder / name, rows.filter(pc.equal(names, name)), self.schema)
            self._loaded.pop(name, None)

    def _bucket(self, value: str) -> str:
        return value[: self.digits] or "all"

    def _load(self, bucket: str) -> pa.Table:
        folder = self.folder / bucket
        found = [read_shard(folder, Shard(path, 0, 0, "")) for path in folder.files() if path.endswith(".parquet")]
        return pa.concat_tables([self.schema.empty_table(), *found])


def _digits(expected_rows: int) -> int:
    """Hex digits of a bucket's name so that a bucket holds about ROWS_PER_BUCKET rows."""
    digits = 0
    while expected_rows / 16**digits > ROWS_PER_BUCKET:
        digits += 1
    return digits


def _first_of_each(rows: pa.Table, key: str) -> pa.Table:
    """Rows recorded twice (a batch in flight at a crash) are kept once."""
    seen: set[str] = set()
    keep = []
    for index, value in enumerate(rows[key].to_pylist()):
        if value not in seen:
            seen.add(value)
            keep.append(index)
    return rows.take(pa.array(keep, pa.int64()))
