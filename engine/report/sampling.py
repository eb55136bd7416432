"""Small, repeatable samples of tables of any size, read shard by shard.

Ids are content hashes, so the smallest ids of a group are a uniform sample of it that does not depend on the order of the shards.
"""

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import TypeVar

import numpy as np
import pyarrow as pa

from engine.report.embed import as_data
from engine.rows import Row
from engine.storage.artifact import Artifact
from engine.storage.shards import iterate

T = TypeVar("T")


def pieces(artifacts: dict[str, Artifact], job: str, table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the shards of a table with `columns` only; nothing if the job or the table does not exist."""
    artifact = artifacts.get(job)
    if artifact is not None and table in artifact.record.tables:
        yield from iterate(artifact.folder / table, artifact.table(table), columns)


def keep_first(parts: Iterable[pa.Table], order: Sequence[str], *, count: int, limit: int | None = None) -> pa.Table | None:
    """Return the first `count` rows of each group, at most `limit` in all; None if there are no rows.

    Rows of a group have equal `order[0]`; rows are sorted ascending by all of `order`. Holds one shard and the kept rows in memory.
    """
    kept: pa.Table | None = None
    for part in parts:
        both = part if kept is None else pa.concat_tables([kept, part])
        ranked = both.sort_by([(name, "ascending") for name in order])
        kept = ranked.filter(pa.array(_rank_in_run(ranked[order[0]]) < count)).slice(0, limit)
    return kept if kept is not None and kept.num_rows else None


def within(rows: Collection[T], budget: int) -> list[T]:
    """Return the first of `rows` whose JSON fits together into `budget` bytes."""
    used = itertools.accumulate(len(as_data(row).encode()) for row in rows)
    return [row for row, size in zip(rows, used, strict=True) if size <= budget]


def interleave(rows: Sequence[Row], key: str) -> list[Row]:
    """Return `rows` with the groups of `key` taking turns, so that every prefix is balanced."""
    ranks: dict[str, Iterator[int]] = defaultdict(itertools.count)  # of the rows of each group, in order
    return [row for _, row in sorted(((next(ranks[row[key]]), row) for row in rows), key=itemgetter(0))]


def _rank_in_run(column: pa.ChunkedArray) -> np.ndarray:
    """Return the position, from 0, of each row within its run of equal values, (n,)."""
    values = column.to_numpy(zero_copy_only=False)
    index = np.arange(len(values))
    is_start = np.concatenate([[True], values[1:] != values[:-1]])[: len(values)]
    return index - np.maximum.accumulate(np.where(is_start, index, 0))
