"""Rows in the order of some columns, cut into ranges of which a task holds one, and the place of each row among its equals.

A range has the rows of all tables whose keys lie in it. The keys end with a column of distinct numbers, so that rows whose other
keys are equal may lie in two ranges. Cuts are quantiles of a sample of the keys.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from engine.curation.select import places
from engine.dedup.plan import groups
from engine.distributed.executor import Executor, returned
from engine.distributed.rows import Ref

SAMPLES = 8  # keys of a bundle and a range, from which cuts are made: a range has at most some 1.2 times as many rows as the mean
BUNDLES = 60  # of tables that are cut together: a piece of a range of a million rows has 200 KB or more, as in `dedup.plan.pieces`


class Size(NamedTuple):
    """Into how many ranges how many rows are cut."""

    ranges: int
    rows: int


class Edges(NamedTuple):
    """The first and the last group of a range, and how many of its rows each has; the groups are None without rows."""

    first: tuple | None = None
    first_rows: int = 0
    last: tuple | None = None
    last_rows: int = 0


def by_range(tables: Sequence[Ref], keys: Sequence[str], size: Size, executor: Executor) -> list[list[Ref]]:
    """Return the pieces of `tables` in each range of the `keys`."""
    bundles = [tables[group] for group in groups(len(tables), most=BUNDLES)]
    share = SAMPLES * size.ranges * len(bundles) / size.rows
    samples = [executor.start(_sample, keys, share, *bundle)[0] for bundle in bundles]
    [cuts] = executor.start(_cuts, keys, size.ranges, *samples)
    split = [executor.start(_split, keys, size.ranges, cuts, *bundle, returns=size.ranges) for bundle in bundles]
    return [[of_bundle[number] for of_bundle in split] for number in range(size.ranges)]


def with_places(
    tables: Sequence[Ref], name: str, group: Sequence[str], keys: Sequence[str], size: Size, executor: Executor
) -> list[Ref]:  # fmt: skip
    """Return the rows of `tables`, by range, with the column `name`: the place of a row, 0 first, by `keys` among the rows with an
    equal `group`."""
    ranges = by_range(tables, [*group, *keys], size, executor)
    placed = [executor.start(_placed, name, group, keys, *pieces, returns=2) for pieces in ranges]
    [before] = executor.start(_before, *(edges for _, edges in placed))
    return [executor.start(_moved, name, number, before, *both)[0] for number, both in enumerate(placed)]


def in_order(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Return `table` sorted by `keys`."""
    return table.take(pa.array(np.lexsort([table[key].to_numpy() for key in reversed(keys)])))


def _sample(keys: Sequence[str], share: float, *tables: pa.Table) -> pa.Table:
    """Return the keys of a `share` of the rows, one in the middle of each of as many equal parts of their order."""
    ordered = in_order(pa.concat_tables([table.select(keys) for table in tables]), keys)
    count = round(len(ordered) * share) or 1
    return ordered.take(pa.array((2 * np.arange(count) + 1) * len(ordered) // (2 * count))) if len(ordered) else ordered


def _cuts(keys: Sequence[str], ranges: int, *samples: pa.Table) -> list[tuple]:
    """Return the first key of each range but the first."""
    every = in_order(pa.concat_tables(samples), keys)
    chosen = every.take(pa.array(np.arange(1, ranges) * len(every) // ranges))
    return list(zip(*(chosen[key].to_pylist() for key in keys), strict=True))


def _split(keys: Sequence[str], ranges: int, cuts: list[tuple], *tables: pa.Table) -> Any:
    table = in_order(pa.concat_tables(tables), keys)
    columns = [table[key].to_numpy() for key in keys]
    starts = [bisect_left(range(len(table)), cut, key=lambda row: tuple(column[row] for column in columns)) for cut in cuts]
    return returned([table.slice(start, end - start) for start, end in pairwise([0, *starts, len(table)])])


def _placed(name: str, group: Sequence[str], keys: Sequence[str], *pieces: pa.Table) -> tuple[pa.Table, Edges]:
    """Return the rows of a range with their places among those of the range."""
    table = in_order(pa.concat_tables(pieces), [*group, *keys])
    columns = [table[key].to_numpy() for key in group]
    place = places(*columns)
    table = table.append_column(name, pa.array(place))
    if not len(table):
        return table, Edges()
    first, last = (tuple(column[row].item() for column in columns) for row in (0, -1))
    starts = np.flatnonzero(place == 0)
    return table, Edges(first, int(starts[1]) if len(starts) > 1 else len(table), last, int(place[-1]) + 1)


def _before(*edges: Edges) -> list[int]:
    """Return how many rows of the first group of each range lie in earlier ranges."""
    before, group, count = [], None, 0
    for each in edges:
        before.append(count if each.first == group and group is not None else 0)
        if each.last is not None:
            group, count = each.last, each.last_rows + (before[-1] if each.last == each.first else 0)
    return before


def _moved(name: str, number: int, before: list[int], table: pa.Table, edges: Edges) -> pa.Table:
    """Return a range with the places among all rows."""
    place = table[name].to_numpy().copy()
    place[: edges.first_rows] += before[number]
    return table.set_column(table.column_names.index(name), name, pa.array(place))
