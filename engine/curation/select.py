"""Picks prompts in one of seven orders, within quotas. One process; it holds 60 bytes a row, and VectorShards one at a time.

`typical`            cluster by cluster the nearest to the centre, round-robin over scenarios
`k_center`           farthest first: Gonzalez, "Clustering to minimize the maximum intercluster distance" (1985); for training sets
                     Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach" (2018)
`facility_location`  the largest gain in the similarity of all rows to their most similar pick: Lin and Bilmes, "A class of
                     submodular functions for document summarization" (2011); greedy is within 1 - 1/e of the best without quotas
                     (Nemhauser et al., 1978), lazy after Minoux (1978)
`information`        Settles and Craven, "An analysis of active learning strategies for sequence labeling tasks" (2008), information
                     density: the mean negative log-likelihood of the teacher's answer times the mean similarity
`deita`, `ifd`, `dense`
                     by falling complexity times quality (Liu et al., 2024), instruction-following difficulty below 1 (Li et al.,
                     2024), and density; a row without the signal comes last

Rows come in a fixed order and ties go to the earlier row, so equal rows give equal picks.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.contract.curation import Pick, Stratum
from engine.curation.vector_shards import Vectors

LANDMARKS = 2_048  # evenly spread rows that represent all rows in comparisons of all with all
AT_ONCE = 4_096

Strings = Sequence[str] | pa.ChunkedArray
"""A value for each row; of many rows a column of dictionaries, which takes 4 bytes a row."""


class Eligible(NamedTuple):
    """The rows that may be picked, column by column."""

    vectors: Vectors  # unit, (rows, dimensions)
    round_robin_rank: np.ndarray  # see `round_robin_rank`
    cluster: np.ndarray
    mean_nll: np.ndarray  # of the teacher's answer, nats a token; 0 if it is not known
    strata: Mapping[str, Strings]  # contract.curation.Stratum -> the rows' values
    signals: Mapping[str, np.ndarray] = {}


Score = Callable[[Eligible, np.ndarray | None], np.ndarray]
"""Of rows, and of the mean of all rows' vectors, of which they may be a shard; None: they are all."""


class Remaining(NamedTuple):
    """What a QuotaTracker hands on to that of the rows that follow."""

    rows: int
    of_values: list[dict[str, int]]  # for each stratum with a quota; a value that was not met yet is missing


class QuotaTracker:
    """Counts how many more rows may be picked, in all and of each value that has a quota."""

    def __init__(self, strata: Mapping[str, Strings], pick: Pick, *, rows: int, left: Remaining | None = None) -> None:
        """`strata` are the values of the rows that are looked at, of `rows` in all; `left` is what earlier ones have left."""
        self.left = left.rows if left else pick.count or rows
        self.cells: list[tuple[np.ndarray, np.ndarray]] = []  # value of each row, rows left of each value
        self.names: list[list[str]] = []
        self.before = left.of_values if left else [{} for _ in quotas_of(pick)]
        for (stratum, quota), known in zip(quotas_of(pick).items(), self.before, strict=True):
            names, cell = coded(strata[stratum])
            of_names = [known.get(name, _limit(quota, name, pick.count, rows)) for name in names]
            self.cells.append((cell, np.array(of_names, np.int64)))
            self.names.append(names)

    @property
    def remaining(self) -> Remaining:
        """What is left for rows that come later."""
        now = [dict(zip(names, left.tolist(), strict=True)) for names, (_, left) in zip(self.names, self.cells, strict=True)]
        return Remaining(self.left, [before | after for before, after in zip(self.before, now, strict=True)])

    def open(self) -> np.ndarray:
        """Return a mask of the rows that may still be picked."""
        is_open = np.full(len(self.cells[0][0]) if self.cells else 1, self.left > 0)
        for cell, left in self.cells:
            is_open = is_open & (left[cell] > 0)
        return is_open

    def has(self, row: int) -> bool:
        """Return whether `row` may still be picked."""
        return self.left > 0 and all(left[cell[row]] > 0 for cell, left in self.cells)

    def take(self, row: int) -> None:
        """Count `row` as picked."""
        self.left -= 1
        for cell, left in self.cells:
            left[cell[row]] -= 1


def select(rows: Eligible, pick: Pick) -> np.ndarray:
    """Return a mask of the picked rows; all of them if the contract has no limit or quota."""
    if not pick.limits or not len(rows.vectors):
        return np.ones(len(rows.vectors), bool)
    return ORDERS[pick.order](rows, QuotaTracker(rows.strata, pick, rows=len(rows.vectors)))


def quotas_of(pick: Pick) -> dict[Stratum, dict[str, int | float]]:
    """Return the quotas of each stratum that has some, `per_cluster` among them."""
    quotas: dict[Stratum, dict[str, int | float]] = {stratum: dict(values) for stratum, values in pick.quotas.items()}
    if pick.per_cluster is not None:
        quotas["cluster"] = {"*": pick.per_cluster} | quotas.get("cluster", {})
    return quotas


def density(rows: Eligible, mean: np.ndarray | None = None) -> np.ndarray:
    """Return the information density of each row: nats a token, times the mean cosine to all rows if that is positive.

    `mean` is the mean of all rows' vectors, of which `rows` may be a shard; None: `rows` are all.
    """
    if not len(rows.vectors):
        return np.zeros(0, np.float32)
    return rows.mean_nll * np.maximum(rows.vectors @ (rows.vectors.mean(axis=0) if mean is None else mean), 0)


def typical(rows: Eligible, quotas: QuotaTracker) -> np.ndarray:
    """Pick the first of each cluster, then the second of each, and so on."""
    return _in_order(np.lexsort((rows.cluster, rows.round_robin_rank)), quotas)


def difficulty(rows: Eligible, mean: np.ndarray | None = None) -> np.ndarray:
    """Return the instruction-following difficulty; negative from 1 on, where the prompt does not help."""
    values = rows.signals["ifd"]
    return np.where(values < 1, values, -values)


def falling(score: Score, rows: Eligible, mean: np.ndarray | None = None) -> np.ndarray:
    """Return keys that rise where the `score` falls; that of nan is the last."""
    values = score(rows, mean)
    return -np.where(np.isnan(values), -np.inf, values)


def by_score(score: Score) -> Callable[[Eligible, QuotaTracker], np.ndarray]:
    """Return an order that picks by falling `score`; nan comes last."""
    return lambda rows, quotas: _in_order(np.argsort(falling(score, rows), kind="stable"), quotas)


def k_center(rows: Eligible, quotas: QuotaTracker) -> np.ndarray:
    """Pick the row nearest to the mean, then always the one farthest from all picked: picks * rows * dimensions products."""
    picked = np.zeros(len(rows.vectors), bool)
    farness = 2 - rows.vectors @ rows.vectors.mean(axis=0)
    row = int(np.argmin(np.where(quotas.open(), farness, np.inf)))
    farness = np.full(len(rows.vectors), 2, np.float32)
    while quotas.has(row) and not picked[row]:
        picked[row] = True
        quotas.take(row)
        farness = np.minimum(farness, 1 - rows.vectors @ rows.vectors[row])
        row = int(np.argmax(np.where(quotas.open() & ~picked, farness, -np.inf)))
    return picked


def facility_location(rows: Eligible, quotas: QuotaTracker) -> np.ndarray:
    """Pick what raises the landmarks' mean cosine to their nearest pick most: at least rows * LANDMARKS * dimensions products."""
    targets = rows.vectors[landmarks(len(rows.vectors))]
    best = np.zeros(len(targets), np.float32)
    starts = range(0, len(rows.vectors), AT_ONCE)
    gains = np.concatenate([_gain(rows.vectors[start : start + AT_ONCE], targets, best) for start in starts])
    first = ((-float(gains[row]), row, True) for row in _in_chunks(np.argsort(-gains, kind="stable")))
    waiting = [next(first)]  # rows whose gain was computed again, and the first of the others
    picked = np.zeros(len(rows.vectors), bool)
    while waiting and quotas.left:
        _, row, is_first = heapq.heappop(waiting)
        if is_first and (following := next(first, None)):
            heapq.heappush(waiting, following)
        if not quotas.has(row):
            continue  # a used-up quota never opens again
        gain = float(_gain(rows.vectors[row : row + 1], targets, best)[0])
        if waiting and (-gain, row) > waiting[0][:2]:
            heapq.heappush(waiting, (-gain, row, False))
            continue
        picked[row] = True
        quotas.take(row)
        best = np.maximum(best, targets @ rows.vectors[row])
    return picked


def turns(names: Sequence[str], frequency: Sequence[int]) -> np.ndarray:
    """Return the turn of each scenario in a round: that which is rarest among all rows comes first."""
    turn = np.empty(len(names), np.int32)
    turn[sorted(range(len(names)), key=lambda number: (frequency[number], names[number]))] = np.arange(len(names))
    return turn


def round_robin_rank(cluster: np.ndarray, closeness: np.ndarray, scenario: Strings) -> np.ndarray:
    """Return the rank of each row within its cluster, 0 first, taken round-robin over the cluster's scenarios.

    The scenario that is rarest among all rows comes first; within a scenario the row nearest to the cluster's centre. Equally near
    rows keep their order.
    """
    names, code = coded(scenario)
    taken = turns(names, np.bincount(code, minlength=len(names)).tolist())[code]
    order = np.lexsort((-closeness, taken, cluster))
    round_number = np.empty(len(code), np.int64)  # of a row: its place among the rows of its cluster and scenario
    round_number[order] = places(cluster[order], taken[order])
    order = np.lexsort((taken, round_number, cluster))
    rank = np.empty(len(code), np.int64)
    rank[order] = places(cluster[order])
    return rank


def places(*keys: np.ndarray) -> np.ndarray:
    """Return the place of each row, 0 first, among the rows with equal `keys`, which are together."""
    is_first = np.zeros(len(keys[0]), bool)
    is_first[:1] = True
    for key in keys:
        is_first[1:] |= key[1:] != key[:-1]
    place = np.arange(len(is_first))
    return place - np.maximum.accumulate(np.where(is_first, place, 0))


def landmarks(count: int) -> np.ndarray:
    """Return the numbers of at most LANDMARKS of `count` rows, evenly spread."""
    return evenly_spread(count, LANDMARKS)


def evenly_spread(count: int, most: int) -> np.ndarray:
    """Return the sorted numbers of at most `most` of `count` rows, evenly spread."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, most)).round().astype(np.int64))


def coded(values: Strings) -> tuple[list[str], np.ndarray]:
    """Return the distinct values, and the number of the value of each row."""
    column = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([pa.array(values, pa.string())])
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    whole: pa.DictionaryArray = column.unify_dictionaries().combine_chunks()
    return whole.dictionary.to_pylist(), whole.indices.to_numpy()


SCORES: dict[str, Score] = {
    "information": density,
    "deita": lambda rows, mean: rows.signals["complexity"] * rows.signals["quality"],
    "ifd": difficulty,
    "dense": lambda rows, mean: rows.signals["density"],
}
ORDERS: dict[str, Callable[[Eligible, QuotaTracker], np.ndarray]] = {
    "typical": typical,
    "k_center": k_center,
    "facility_location": facility_location,
    **{name: by_score(score) for name, score in SCORES.items()},
}


def _in_order(order: np.ndarray, quotas: QuotaTracker) -> np.ndarray:
    return take_in_order(order, len(order), quotas)


def take_in_order(order: np.ndarray, rows: int, quotas: QuotaTracker) -> np.ndarray:
    """Return a mask of `rows` rows: the first ones of `order` that `quotas` has room for, which are counted."""
    picked = np.zeros(rows, bool)
    for row in _in_chunks(order):
        if not quotas.left:
            break
        if quotas.has(row):
            picked[row] = True
            quotas.take(row)
    return picked


def _in_chunks(order: np.ndarray) -> Iterator[int]:
    """Yield the row numbers without a Python object for each at once."""
    for start in range(0, len(order), AT_ONCE):
        yield from order[start : start + AT_ONCE].tolist()


def _gain(vectors: np.ndarray, targets: np.ndarray, best: np.ndarray) -> np.ndarray:
    return np.maximum(vectors @ targets.T - best, 0).sum(axis=1, dtype=np.float64)


def _limit(quota: dict[str, int | float], name: str, count: int | None, rows: int) -> int:
    """Return the most rows of a value: a whole number is a count, a fraction is a share of `count`, rounded down."""
    limit = quota.get(name, quota.get("*", rows))
    return int(limit * (count or rows) + 1e-9) if isinstance(limit, float) else limit  # 0.29 of 100 are 29
