"""Paid work by content: what a model has answered is never paid for again, even if the stages behind it are rebuilt.

A ledger is a tree of Parquet files. `a/3/a31f0c22-a3c2e9d4-<hash>.parquet` holds rows whose partition key (the prompt's id) lies
between the two values that its name begins with; its folder is their common prefix. A reader that looks for some partitions lists
the folders on the way down to them and opens the files whose range holds one of them. There is no index; any number of rows fits.

A batch that is recorded becomes a file at once, under a name hashed from its content: writing it twice is harmless, and nothing is
renamed or appended to. When a block of rows is done, its files are merged into one. A file is removed only after all its rows are
in another, so many processes and runs may share a ledger and each may die at any moment; duplicates are found once.

Each file names the schema version of its columns in its Parquet metadata. Rows of an older version are migrated when they are read;
a file without a version is older than the first that has one, and the migrations choose by its columns.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import StorageError
from engine.rows import VERSION, conform
from engine.storage.folder import Folder
from engine.storage.migrations import MIGRATIONS
from engine.storage.shards import Shard, read_shard, write_shard

DEPTH = 3  # folders above a file, at most: 4096 leaves
DIGITS = 8  # of a partition key in a file's name
SCHEMA_VERSION = b"rayleigh.schema_version"  # key of the Parquet metadata


class Ledger:
    """Rows of `schema`, found by the column `key`, block by block; a block is a set of values (hex ids) of `partition_key`."""

    def __init__(self, folder: Folder, schema: pa.Schema, *, key: str, partition_key: str) -> None:
        self.folder, self.key, self.partition_key = folder, key, partition_key
        self.schema = schema.with_metadata({SCHEMA_VERSION: str(VERSION).encode()})
        self._own: dict[str, pa.Table] = {}  # files that hold rows of the open block only
        self._shared: list[pa.Table] = []  # rows of the open block from other files
        self._held: set[str] = set()  # keys of all of them

    @contextmanager
    def block(self, partitions: Iterable[str]) -> Iterator[None]:
        """Hold the rows of `partitions` in memory while they are worked on, then merge their files into one."""
        self._load(sorted(set(partitions)))
        yield
        self._merge()
        self._own, self._shared, self._held = {}, [], set()

    def find(self, keys: Iterable[str]) -> pa.Table:
        """Return the rows of the open block whose key is in `keys`, each once."""
        wanted = self._held.intersection(keys)
        if not wanted:
            return self.schema.empty_table()
        rows = pa.concat_tables([self.schema.empty_table(), *self._own.values(), *self._shared])
        return _first_of_each(rows.filter(pc.is_in(rows[self.key], pa.array(wanted, pa.string()))), self.key)

    def record(self, rows: pa.Table) -> None:
        """Make `rows`, which belong to the open block, durable before anything else happens to them."""
        if rows.num_rows:
            rows = conform(rows, self.schema)
            self._own[self._write(rows)] = rows
            self._held.update(rows[self.key].to_pylist())

    def _load(self, partitions: Sequence[str]) -> None:
        """Read the block; again if another process has merged one of its files in between."""
        while True:
            self._own, self._shared, self._held = {}, [], set()
            paths = self._paths(partitions)
            try:
                for path in paths:
                    self._keep(path, partitions)
                return
            except StorageError:
                if set(paths) <= set(self._paths(partitions)):
                    raise

    def _keep(self, path: str, partitions: Sequence[str]) -> None:
        rows = _migrated(read_shard(self.folder, Shard(path, 0, 0, "")))
        for column in self.schema:
            if column.name not in rows.column_names:  # older than the column
                rows = rows.append_column(column, pa.nulls(rows.num_rows, column.type))
        rows = conform(rows, self.schema)
        of_block = rows.filter(pc.is_in(rows[self.partition_key], pa.array(partitions, pa.string())))
        if of_block.num_rows == rows.num_rows:
            self._own[path] = rows
        else:
            self._shared.append(of_block)
        self._held.update(of_block[self.key].to_pylist())

    def _merge(self) -> None:
        if len(self._own) > 1:
            kept = self._write(_first_of_each(pa.concat_tables(self._own.values()).sort_by(self.key), self.key))
            for path in self._own.keys() - {kept}:
                self.folder.remove_file(path)

    def _write(self, rows: pa.Table) -> str:
        span = pc.min_max(rows[self.partition_key]).as_py()
        branch = _branch([span["min"], span["max"]])
        prefix = f"{span['min'][:DIGITS]}-{span['max'][:DIGITS]}"
        shard = write_shard(_at(self.folder, branch), rows, self.schema, prefix=prefix, durable=True)
        return "/".join([*branch, shard.path])

    def _paths(self, partitions: Sequence[str]) -> list[str]:
        """Files that may hold one of the sorted `partitions`: above their branch and anywhere below it."""
        if not partitions:
            return []
        branch, starts = _branch(partitions), [partition[:DIGITS] for partition in partitions]
        paths = []
        for depth in range(len(branch) + 1):
            names = _at(self.folder, branch[:depth]).files(deep=depth == len(branch))
            paths += ["/".join([*branch[:depth], name]) for name in names if _may_hold(name, starts)]
        return paths


def _migrated(rows: pa.Table) -> pa.Table:
    for older in range(int((rows.schema.metadata or {}).get(SCHEMA_VERSION, 1)), VERSION):
        rows = MIGRATIONS[older](rows)
    return rows


def _branch(partitions: Sequence[str]) -> str:
    """The common prefix of the sorted `partitions`, at most DEPTH digits."""
    pairs = zip(partitions[0], partitions[-1], strict=False)
    return "".join(digit for digit, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))[:DEPTH]


def _at(folder: Folder, branch: str) -> Folder:
    return folder / "/".join(branch) if branch else folder


def _may_hold(name: str, starts: Sequence[str]) -> bool:
    """Whether one of the sorted `starts` lies in the range that a file is named after."""
    low, _, rest = name.rpartition("/")[2].partition("-")
    high, _, rest = rest.partition("-")
    nearest = bisect_left(starts, low)
    return rest.endswith(".parquet") and nearest < len(starts) and starts[nearest] <= high


def _first_of_each(rows: pa.Table, key: str) -> pa.Table:
    """Rows recorded twice (a batch in flight at a crash) are kept once."""
    values = rows[key].to_pylist()
    first = dict(zip(reversed(values), range(len(values) - 1, -1, -1), strict=True))
    return rows if len(first) == len(values) else rows.take(sorted(first.values()))
