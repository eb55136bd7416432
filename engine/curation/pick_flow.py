"""Picking of many rows within quotas, in ranges of the order: the picks of `select`, and no task holds all rows.

The order is by keys of the rows. `typical` needs two passes for them: the round of a row, which is its place among the rows of
its cluster and scenario, then its place in the cluster by round and scenario (`select.round_robin_rank`). The last pass takes the
ranges one after the other: each starts with what the quotas of the earlier ones have left.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Pick
from engine.curation import decide
from engine.curation.ranges import Size, by_range, with_places
from engine.curation.select import SCORES, QuotaTracker, Remaining, falling, quotas_of, take_in_order, turns
from engine.curation.vector_shards import mean_of_shards
from engine.dedup.plan import MOST_PARTS, groups
from engine.distributed.executor import Executor, returned
from engine.distributed.rows import Ref

RANGE_ROWS = 1_000_000  # that may be picked; some 200 bytes each while they are sorted
MASK_TASKS = 32  # of neighbouring shards; with more of them their picks would be so few that they stay in the driver's memory
ORDERS = ("typical", *SCORES)
"""Orders of picking in which no row's place depends on what is picked."""
AT = "at"  # number of a row among all


def pick(columns: Sequence[Ref], vectors: Sequence[Ref], rows: Sequence[int], section: Pick, executor: Executor) -> list[Ref]:
    """Return references to the mask of the picked rows of each shard, for an order of ORDERS.

    `columns` are `decide.pickable`, `vectors` those of the same rows if the order looks at them, and `rows` their numbers.
    """
    size = Size(min(MOST_PARTS, 1 + (sum(rows) - 1) // RANGE_ROWS), sum(rows))
    starts = np.cumsum([0, *rows]).tolist()
    if section.order == "typical":
        [turn] = executor.start(_turns, *(executor.start(_scenarios, table)[0] for table in columns))
        tables = [executor.start(_typical, section, start, table, turn)[0] for start, table in zip(starts, columns, strict=False)]
        tables = with_places(tables, "round", ["number", "turn"], ["far", AT], size, executor)
        tables = with_places(tables, "rank", ["number"], ["round", "turn", AT], size, executor)
        keys = ["rank", "number", AT]
    else:
        mean = mean_of_shards(vectors, rows, executor) if vectors else None
        tables = [
            executor.start(_scored, section, start, table, mean, *of_shard)[0]
            for start, table, *of_shard in zip(starts, columns, *([vectors] if vectors else []), strict=False)
        ]
        keys = ["score", AT]
    members = groups(len(rows), most=MASK_TASKS)
    bounds = [*(starts[group.start] for group in members), starts[-1]]
    left: Any = None
    picked = []
    for pieces in by_range(tables, keys, size, executor):
        left, *of_groups = executor.start(_take, section, keys, bounds, left, *pieces, returns=1 + len(members))
        picked.append(of_groups)
    masks: list[Ref] = []
    for number, group in enumerate(members):
        mine = [of_groups[number] for of_groups in picked]
        masks += executor.start(_masks, rows[group], *mine, returns=group.stop - group.start)
    return masks


def _scenarios(table: pa.Table) -> pa.Table:
    """Return the scenarios of a shard with their rows."""
    counts = pc.value_counts(table["scenario"].cast(pa.string()))
    return pa.table({"scenario": counts.field("values"), "rows": counts.field("counts")})


def _turns(*counts: pa.Table) -> pa.Table:
    """Return every scenario with its turn in a round."""
    every = pa.concat_tables(counts).group_by("scenario").aggregate([("rows", "sum")])
    names = every["scenario"].to_pylist()
    return pa.table({"scenario": names, "turn": turns(names, every["rows_sum"].to_pylist())})


def _typical(section: Pick, start: int, table: pa.Table, turn: pa.Table) -> pa.Table:
    place = pc.index_in(table["scenario"].cast(pa.string()), turn["scenario"].combine_chunks())
    keys = {"number": table["number"], "turn": turn["turn"].take(place), "far": pc.negate(table["closeness"])}
    return _with_strata(section, start, table, keys)


def _scored(section: Pick, start: int, table: pa.Table, mean: np.ndarray | None, *vectors: np.ndarray) -> pa.Table:
    of_rows = vectors[0] if vectors else np.empty((len(table), 0), np.float32)
    keys = falling(SCORES[section.order], decide.scorable(table, of_rows, section), mean)
    return _with_strata(section, start, table, {"score": pa.array(keys)})


def _with_strata(section: Pick, start: int, table: pa.Table, keys: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    """Return the `keys` of the rows, their numbers among all, and their values of each stratum with a quota."""
    strata = {_stratum(name): table[name].cast(pa.string()) for name in quotas_of(section)}
    return pa.table({**keys, AT: np.arange(start, start + len(table)), **strata})


def _stratum(name: str) -> str:
    return f"stratum {name}"


def _take(
    section: Pick, keys: Sequence[str], bounds: list[int], left: Remaining | None, *pieces: pa.Table
) -> list[Any]:  # fmt: skip
    """Return what is left after a range, and the picked rows from each of `bounds` to the next, counted from the first of them."""
    table = pa.concat_tables(pieces)
    strata = {name: table[_stratum(name)] for name in quotas_of(section)}
    quotas = QuotaTracker(strata, section, rows=bounds[-1], left=left)
    is_open = np.flatnonzero(np.broadcast_to(quotas.open(), len(table)))
    order = is_open[np.lexsort([table[key].to_numpy()[is_open] for key in reversed(keys)])]
    at = np.sort(table[AT].to_numpy()[take_in_order(order, len(table), quotas)])
    cuts = np.searchsorted(at, bounds)
    return [quotas.remaining, *(at[start:stop] - first for first, (start, stop) in zip(bounds, pairwise(cuts), strict=False))]


def _masks(rows: Sequence[int], *picked: np.ndarray) -> Any:
    """Return the mask of each shard of neighbouring ones with so many `rows`, of which `picked` are rows."""
    mask = np.zeros(sum(rows), bool)
    for of_range in picked:
        mask[of_range] = True
    return returned(np.split(mask, np.cumsum(rows)[:-1]))
