"""Which prompts get the places that there are, in one of seven orders, within quotas. One process, 4 bytes times dimensions a row.

`typical`            cluster by cluster the nearest to its centre, in turns over its scenarios
`k_center`           farthest first: Gonzalez, "Clustering to minimize the maximum intercluster distance" (1985); for training sets
                     Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach" (2018)
`facility_location`  what makes the rest best represented by its most similar pick: Lin and Bilmes, "A class of submodular functions
                     for document summarization" (2011); greedy is within 1 - 1/e of the best without quotas (Nemhauser et al.,
                     1978), lazy after Minoux (1978)
`information`        Settles and Craven, "An analysis of active learning strategies for sequence labeling tasks" (2008), information
                     density: how unsure the teacher was, times how much there is nearby
`deita`, `ifd`, `dense`
                     by falling complexity times quality (Liu et al., 2024), instruction-following difficulty below 1 (Li et al.,
                     2024), and density; a row without the signal comes last

Rows come in a fixed order, ties go to the earlier one: equal rows give equal picks.
"""

import heapq
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from engine.contract.curation import Pick

LANDMARKS = 2_048  # rows, evenly spread, that stand for all where each is compared with each
AT_ONCE = 4_096


class Eligible(NamedTuple):
    """What is known of the rows that may be picked, by row."""

    vectors: np.ndarray  # unit, (rows, dimensions)
    turn: np.ndarray  # of pick.turns: how many of its cluster stand for it before
    cluster: np.ndarray
    surprise: np.ndarray  # nats a token of the teacher's answer; 0 where it is not known
    sides: dict[str, list[str]]  # contract.curation.Side -> the rows' values
    signals: Mapping[str, np.ndarray] = {}


class QuotaTracker:
    """How many more rows may be picked, in all and of each value that has a quota."""

    def __init__(self, rows: Eligible, pick: Pick) -> None:
        self.left = pick.count or len(rows.vectors)
        self.cells: list[tuple[np.ndarray, np.ndarray]] = []  # cell of each row, places left in each cell
        quotas: dict[str, dict[str, int | float]] = {side: dict(values) for side, values in pick.quotas.items()}
        if pick.per_cluster is not None:
            quotas["cluster"] = {"*": pick.per_cluster} | quotas.get("cluster", {})
        for side, most in quotas.items():
            names, cell = np.unique(np.array(rows.sides[side], dtype=str), return_inverse=True)
            self.cells.append((cell, np.array([_places(most, name, pick.count, len(cell)) for name in names.tolist()], np.int64)))

    def open(self) -> np.ndarray:
        """Return which rows could be picked."""
        found = np.full(len(self.cells[0][0]) if self.cells else 1, self.left > 0)
        for cell, left in self.cells:
            found = found & (left[cell] > 0)
        return found

    def has(self, row: int) -> bool:
        """Return whether there is a place for `row`."""
        return self.left > 0 and all(left[cell[row]] > 0 for cell, left in self.cells)

    def give(self, row: int) -> None:
        """Give `row` its place."""
        self.left -= 1
        for cell, left in self.cells:
            left[cell[row]] -= 1


def select(rows: Eligible, pick: Pick) -> np.ndarray:
    """Return which rows are picked; all of them if the contract limits nothing."""
    if not pick.limits or not len(rows.vectors):
        return np.ones(len(rows.vectors), bool)
    return ORDERS[pick.order](rows, QuotaTracker(rows, pick))


def density(rows: Eligible) -> np.ndarray:
    """Return the information density of each row: nats a token, times the mean cosine to all rows if that is positive."""
    if not len(rows.vectors):
        return np.zeros(0, np.float32)
    return rows.surprise * np.maximum(rows.vectors @ rows.vectors.mean(axis=0), 0)


def typical(rows: Eligible, places: QuotaTracker) -> np.ndarray:
    """Pick the first of each cluster, then the second of each, and so on."""
    return _in_order(np.lexsort((rows.cluster, rows.turn)), places)


def information(rows: Eligible, places: QuotaTracker) -> np.ndarray:
    """Pick by falling information density."""
    return _in_order(np.argsort(-density(rows), kind="stable"), places)


def deita(rows: Eligible, places: QuotaTracker) -> np.ndarray:
    """Pick by falling complexity times quality."""
    return _highest(rows.signals["complexity"] * rows.signals["quality"], places)


def ifd(rows: Eligible, places: QuotaTracker) -> np.ndarray:
    """Pick by falling difficulty; where it is 1 or more the prompt does not help to say the answer, and the row comes late."""
    found = rows.signals["ifd"]
    return _highest(np.where(found < 1, found, -found), places)


def dense(rows: Eligible, places: QuotaTracker) -> np.ndarray:
    """Pick by falling density."""
    return _highest(rows.signals["density"], places)


def k_center(rows: Eligible, places: QuotaTracker) -> np.ndarray:
    """Pick the row nearest to the mean, then always the one farthest from all picked: picks * rows * dimensions products."""
    picked = np.zeros(len(rows.vectors), bool)
    farness = 2 - rows.vectors @ rows.vectors.mean(axis=0)
    row = int(np.argmin(np.where(places.open(), farness, np.inf)))
    farness = np.full(len(rows.vectors), 2, np.float32)
    while places.has(row) and not picked[row]:
        picked[row] = True
        places.give(row)
        farness = np.minimum(farness, 1 - rows.vectors @ rows.vectors[row])
        row = int(np.argmax(np.where(places.open() & ~picked, farness, -np.inf)))
    return picked


def facility_location(rows: Eligible, places: QuotaTracker) -> np.ndarray:
    """Pick what raises the landmarks' mean cosine to their nearest pick most: at least rows * LANDMARKS * dimensions products."""
    marks = rows.vectors[landmarks(len(rows.vectors))]
    best = np.zeros(len(marks), np.float32)
    gains = [_gain(rows.vectors[start : start + AT_ONCE], marks, best) for start in range(0, len(rows.vectors), AT_ONCE)]
    waiting = [(-gain, row) for row, gain in enumerate(np.concatenate(gains).tolist())]
    heapq.heapify(waiting)
    picked = np.zeros(len(rows.vectors), bool)
    while waiting and places.left:
        row = heapq.heappop(waiting)[1]
        if not places.has(row):
            continue  # a full cell never opens again
        gain = float(_gain(rows.vectors[row : row + 1], marks, best)[0])
        if waiting and (-gain, row) > waiting[0]:
            heapq.heappush(waiting, (-gain, row))
            continue
        picked[row] = True
        places.give(row)
        best = np.maximum(best, marks @ rows.vectors[row])
    return picked


def landmarks(count: int) -> np.ndarray:
    """Return the numbers of at most LANDMARKS of `count` rows, evenly spread."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, LANDMARKS)).round().astype(np.int64))


ORDERS: dict[str, Callable[[Eligible, QuotaTracker], np.ndarray]] = {
    "typical": typical,
    "k_center": k_center,
    "facility_location": facility_location,
    "information": information,
    "deita": deita,
    "ifd": ifd,
    "dense": dense,
}


def _in_order(order: np.ndarray, places: QuotaTracker) -> np.ndarray:
    picked = np.zeros(len(order), bool)
    for row in order.tolist():
        if places.has(row):
            picked[row] = True
            places.give(row)
    return picked


def _highest(values: np.ndarray, places: QuotaTracker) -> np.ndarray:
    """Pick by falling value; nan comes last."""
    return _in_order(np.argsort(-np.where(np.isnan(values), -np.inf, values), kind="stable"), places)


def _gain(vectors: np.ndarray, marks: np.ndarray, best: np.ndarray) -> np.ndarray:
    return np.maximum(vectors @ marks.T - best, 0).sum(axis=1, dtype=np.float64)


def _places(most: dict[str, int | float], name: str, count: int | None, rows: int) -> int:
    """A whole number is a count; a fraction is a share of `count`, rounded down."""
    wanted = most.get(name, most.get("*", rows))
    return int(wanted * (count or rows)) if isinstance(wanted, float) else wanted
