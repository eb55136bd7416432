"""Rows in blocks that functions run over in threads of this process: of a Ray Dataset what the flows use, by the same names.

Functions are put one after the other and run when the rows are wanted, block by block. Rows are held in memory: it is for work of
which a bound is known.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import pyarrow as pa

from engine.distributed.thread_pool import Ref, ThreadPool
from engine.rows import Row

Part = Callable[[], pa.Table]


class Blocks:
    """Tables of the same columns, each of which a function without arguments returns."""

    def __init__(self, pool: ThreadPool, parts: Sequence[Part]) -> None:
        self.pool = pool
        self.parts = parts

    @classmethod
    def of(cls, pool: ThreadPool, tables: Sequence[pa.Table]) -> "Blocks":
        """Return rows with a block for each of `tables`."""
        return cls(pool, [Ref.of(table).result for table in tables])

    @classmethod
    def from_items(cls, pool: ThreadPool, items: Sequence[Row], blocks: int) -> "Blocks":
        """Return `items` in `blocks` blocks, cut as Ray cuts them."""
        return cls(pool, [partial(pa.Table.from_pylist, mine) for mine in cut(items, blocks)])

    def apply(self, op: Callable[..., Any] | type, batch: int | None, arguments: dict[str, Any]) -> "Blocks":
        """Return what `op` makes of each block, or a class, constructed once, of batches of `batch` rows over the blocks."""
        if not isinstance(op, type):
            return Blocks(self.pool, [partial(_call, partial(op, **arguments), part) for part in self.parts])
        actor = _Actor(partial(op, **arguments))
        parts = self.materialize().parts
        return Blocks(self.pool, [partial(actor.run, bundle, batch) for bundle in _bundles(parts, batch)])

    def materialize(self) -> "Blocks":
        """Compute all blocks, and keep them."""
        refs = [self.pool.start(part)[0] for part in self.parts]
        self.pool.fetch(refs)
        return Blocks(self.pool, [ref.result for ref in refs])

    def to_arrow_refs(self) -> list[Ref]:
        """Return references to the blocks."""
        return [self.pool.start(part)[0] for part in self.parts]

    def tables(self) -> list[pa.Table]:
        """Return the blocks."""
        return self.pool.fetch(self.to_arrow_refs())

    def iter_rows(self) -> Iterator[Row]:
        """Yield the rows."""
        for table in self.tables():
            yield from table.to_pylist()

    def count(self) -> int:
        """Return the number of rows."""
        return sum(map(len, self.tables()))

    def union(self, *others: "Blocks") -> "Blocks":
        """Return these blocks and those of `others`."""
        return Blocks(self.pool, [part for rows in (self, *others) for part in rows.parts])

    def select_columns(self, names: list[str]) -> "Blocks":
        """Return the rows with the columns `names`."""
        return Blocks(self.pool, [partial(_select, part, names) for part in self.parts])

    def repartition(self, blocks: int, *, keys: list[str]) -> "Blocks":
        """Return the rows in `blocks` blocks; rows of equal `keys`, one column, are in one block."""
        [key] = keys
        whole = pa.concat_tables(self.tables())
        numbers = whole[key].combine_chunks().dictionary_encode(null_encoding="encode").indices
        block = numbers.to_numpy(zero_copy_only=False) % blocks
        return Blocks(self.pool, [partial(whole.filter, pa.array(block == number)) for number in range(blocks)])


def cut(items: Sequence[Row], blocks: int) -> list[list[Row]]:
    """Return `items` in `blocks` lists, cut as Ray cuts them."""
    sizes = [len(items) // blocks + (number < len(items) % blocks) for number in range(blocks)]
    return [list(items[start:stop]) for start, stop in pairwise(accumulate(sizes, initial=0))]


class _Actor:
    """An instance of a class, made at its first use and used by one thread at a time, as a model is."""

    def __init__(self, make: Callable[[], Callable[[pa.Table], Any]]) -> None:
        self.make = make
        self.lock = threading.Lock()
        self.instance: Callable[[pa.Table], Any] | None = None

    def run(self, rows: pa.Table, batch: int | None) -> pa.Table:
        with self.lock:
            self.instance = self.instance or self.make()
            starts = range(0, max(1, len(rows)), batch or max(1, len(rows)))
            return pa.concat_tables([_whole(self.instance(rows.slice(start, batch))) for start in starts])


def _bundles(parts: Sequence[Part], batch: int | None) -> Iterator[pa.Table]:
    """Yield whole blocks together until they are `batch` rows, as Ray does, so that a model sees the same batches."""
    bundle: list[pa.Table] = []
    for table in (part() for part in parts):
        bundle.append(table)
        if not batch or sum(map(len, bundle)) >= batch:
            yield pa.concat_tables(bundle)
            bundle = []
    if bundle:
        yield pa.concat_tables(bundle)


def _call(op: Callable[[pa.Table], Any], part: Part) -> pa.Table:
    return _whole(op(part()))


def _whole(result: pa.Table | Iterator[pa.Table]) -> pa.Table:
    return result if isinstance(result, pa.Table) else pa.concat_tables(list(result))


def _select(part: Part, names: list[str]) -> pa.Table:
    return part().select(names)
