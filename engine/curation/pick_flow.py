"""Picking of many rows within quotas, in ranges of the order: the picks of `select`, and no task holds all rows.

The order is by columns of the rows. `typical` needs two passes to have them: the round of a row, which is its place among the rows
of its cluster and scenario, then its place in the cluster by round and scenario (`select.round_robin_rank`). The last pass takes
the ranges one after the other: each starts with what the quotas of the earlier ones have left.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Pick
from engine.curation import decide
from engine.curation.ranges import Size, by_range, in_order, with_places
from engine.curation.select import SCORES, Left, QuotaTracker, falling, quotas_of, take_in_order, turns
from engine.curation.vector_shards import mean_of
from engine.dedup.plan import MOST_PARTS
from engine.distributed.executor import Executor
from engine.distributed.rows import Ref

RANGE_ROWS = 1_000_000  # some 200 bytes each while they are sorted
ORDERS = ("typical", *SCORES)
"""Orders of picking that are by columns of the rows; the others look at what is picked."""
AT = "at"  # number of a row among all


def pick(columns: Sequence[Ref], vectors: Sequence[Ref], rows: Sequence[int], section: Pick, executor: Executor) -> list[Ref]:
    """Return references to the mask of the picked rows of each shard.

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
        mean = _mean(vectors, rows, executor)
        tables = [
            executor.start(_scored, section, start, table, mean, *of_shard)[0]
            for start, table, *of_shard in zip(starts, columns, *([vectors] if vectors else []), strict=False)
        ]
        keys = ["score", AT]
    left: Any = None
    picked = []
    for pieces in by_range(tables, keys, size, executor):
        left, *of_shards = executor.start(_take, section, keys, starts, left, *pieces, returns=1 + len(rows))
        picked.append(of_shards)
    return [executor.start(_mask, count, *(of_shards[shard] for of_shards in picked))[0] for shard, count in enumerate(rows)]


def _mean(vectors: Sequence[Ref], rows: Sequence[int], executor: Executor) -> Ref | None:
    """Return the mean of all vectors; None of none."""
    if not vectors:
        return None
    kept = [(each, count) for each, count in zip(vectors, rows, strict=True) if count]
    [mean] = executor.start(_mean_of, [count for _, count in kept], *(executor.start(_mean_in, each)[0] for each, _ in kept))
    return mean


def _mean_in(vectors: np.ndarray) -> np.ndarray:
    return vectors.mean(axis=0)


def _mean_of(rows: list[int], *means: np.ndarray) -> np.ndarray:
    return mean_of(means, rows)


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


def _take(section: Pick, keys: Sequence[str], starts: list[int], left: Left | None, *pieces: pa.Table) -> list[Any]:
    """Return what is left after a range, and the picked rows of each shard in it."""
    table = in_order(pa.concat_tables(pieces), keys)
    strata = {name: table[_stratum(name)] for name in quotas_of(section)}
    quotas = QuotaTracker(strata, section, rows=starts[-1], left=left)
    picked = take_in_order(np.flatnonzero(np.broadcast_to(quotas.open(), len(table))), len(table), quotas)
    at = np.sort(table[AT].to_numpy()[picked])
    cuts = np.searchsorted(at, starts)
    return [quotas.state, *(at[cuts[shard] : cuts[shard + 1]] - start for shard, start in enumerate(starts[:-1]))]


def _mask(rows: int, *picked: np.ndarray) -> np.ndarray:
    mask = np.zeros(rows, bool)
    for of_range in picked:
        mask[of_range] = True
    return mask
