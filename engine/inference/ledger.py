"""Paid work by content: what a model has answered is never asked again, whatever becomes of the stages behind it.

A ledger is a tree of Parquet files. `a/3/a31f0c22-a3c2e9d4-<hash>.parquet` holds rows whose `place` (the prompt's id) lies between
the two that its name begins with; its folder is what these have in common. Who looks for some places lists the folders on the way
down to them, opens the files whose range holds one of them, and needs no index. The tree fits any number of rows.

What is recorded is a file of its own at once, under a name hashed from its content: writing it twice is harmless, and nothing is
renamed or appended to. When a block of rows is done its files become one. A file is removed only after all its rows lie in another,
so that many processes and runs may share a ledger, and each may die at any moment; what is there twice is found once.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import StorageError
from engine.storage.shards import Folder, Shard, read_shard, write_shard

DEPTH = 3  # folders above a file, at most: 4096 leaves
DIGITS = 8  # of a place in a file's name


class Ledger:
    """Rows of `schema`, found again by the column `key`, block by block; a block is some values of the column `place`, hex ids."""

    def __init__(self, folder: Folder, schema: pa.Schema, *, key: str, place: str) -> None:
        self.folder, self.schema, self.key, self.place = folder, schema, key, place
        self._own: dict[str, pa.Table] = {}  # files that hold rows of the open block only
        self._shared: list[pa.Table] = []  # rows of the open block from other files

    @contextmanager
    def block(self, places: Iterable[str]) -> Iterator[None]:
        """Hold what is known of `places` in memory while they are worked on, then fold it into one file."""
        self._load(sorted(set(places)))
        yield
        self._fold()
        self._own, self._shared = {}, []

    def find(self, keys: Iterable[str]) -> pa.Table:
        """Return the rows of the open block whose key is in `keys`, each once."""
        rows = pa.concat_tables([self.schema.empty_table(), *self._own.values(), *self._shared])
        return _first_of_each(rows.filter(pc.is_in(rows[self.key], pa.array(set(keys), pa.string()))), self.key)

    def record(self, rows: pa.Table) -> None:
        """Make `rows`, which belong to the open block, durable before anything else happens to them."""
        if rows.num_rows:
            self._own[self._write(rows)] = rows

    def _load(self, places: Sequence[str]) -> None:
        """Read the block; again if another process has folded one of its files in between."""
        while True:
            self._own, self._shared = {}, []
            paths = self._paths(places)
            try:
                for path in paths:
                    self._keep(path, places)
                return
            except StorageError:
                if set(paths) <= set(self._paths(places)):
                    raise

    def _keep(self, path: str, places: Sequence[str]) -> None:
        rows = read_shard(self.folder, Shard(path, 0, 0, ""))
        ours = rows.filter(pc.is_in(rows[self.place], pa.array(places, pa.string())))
        if ours.num_rows == rows.num_rows:
            self._own[path] = rows
        else:
            self._shared.append(ours)

    def _fold(self) -> None:
        if len(self._own) > 1:
            kept = self._write(_first_of_each(pa.concat_tables(self._own.values()).sort_by(self.key), self.key))
            for path in self._own.keys() - {kept}:
                self.folder.remove(path)

    def _write(self, rows: pa.Table) -> str:
        """Write one file; return its path in the ledger."""
        span = pc.min_max(rows[self.place]).as_py()
        branch = _branch([span["min"], span["max"]])
        shard = write_shard(_at(self.folder, branch), rows, self.schema, prefix=f"{span['min'][:DIGITS]}-{span['max'][:DIGITS]}")
        return "/".join([*branch, shard.path])

    def _paths(self, places: Sequence[str]) -> list[str]:
        """Files that may hold one of the sorted `places`: above their branch and anywhere below it."""
        if not places:
            return []
        branch, starts = _branch(places), [place[:DIGITS] for place in places]
        found = []
        for depth in range(len(branch) + 1):
            names = _at(self.folder, branch[:depth]).files(deep=depth == len(branch))
            found += ["/".join([*branch[:depth], name]) for name in names if _may_hold(name, starts)]
        return found


def _branch(places: Sequence[str]) -> str:
    """What the sorted `places` have in common, at most DEPTH digits."""
    pairs = zip(places[0], places[-1], strict=False)
    return "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))[:DEPTH]


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
