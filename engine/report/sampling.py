"""Small, repeatable samples of tables of any size, read shard by shard.

Ids are content hashes, so the smallest ids of a group are a uniform sample of it, and the same one in any order of the shards.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from engine.report.embed import as_data
from engine.storage.artifact import Artifact
from engine.storage.shards import iterate


def pieces(artifacts: dict[str, Artifact], job: str, table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the shards of a table, only `columns`; nothing if the job or the table is not there."""
    artifact = artifacts.get(job)
    if artifact is not None and table in artifact.record.tables:
        yield from iterate(artifact.folder / table, artifact.table(table), columns)


def keep_first(parts: Iterable[pa.Table], order: Sequence[str], *, count: int, limit: int | None = None) -> pa.Table | None:
    """Return the first `count` rows of each group, at most `limit` in all; None if there are no rows.

    A group is an equal value of `order[0]`; the order is ascending by all of `order`. Holds one shard and what is kept.
    """
    held: pa.Table | None = None
    for part in parts:
        both = part if held is None else pa.concat_tables([held, part])
        ranked = both.sort_by([(name, "ascending") for name in order])
        held = ranked.filter(pa.array(_place(ranked[order[0]]) < count)).slice(0, limit)
    return held if held is not None and held.num_rows else None


def within(rows: Iterable[dict[str, Any]], budget: int) -> list[dict[str, Any]]:
    """Return the first of `rows` that fit together into `budget` bytes of the page."""
    taken, used = [], 0
    for row in rows:
        used += len(as_data(row).encode())
        if used > budget:
            break
        taken.append(row)
    return taken


def interleave(rows: Sequence[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Return `rows` so that the groups of `key` take turns: a cut anywhere keeps them balanced."""
    turns: dict[Any, int] = {}
    placed = []
    for row in rows:
        turn = turns[row[key]] = turns.get(row[key], -1) + 1
        placed.append((turn, row))
    return [row for _, row in sorted(placed, key=lambda pair: pair[0])]


def _place(column: pa.ChunkedArray) -> np.ndarray:
    """The place, from 0, of each row within its run of equal values."""
    values = column.to_numpy(zero_copy_only=False)
    here = np.arange(len(values))
    starts = np.concatenate([[True], values[1:] != values[:-1]]) if len(values) else np.zeros(0, bool)
    return here - np.maximum.accumulate(np.where(starts, here, 0)) if len(values) else here
