"""Bootstrap intervals (percentile method: Efron, Annals of Statistics 7, 1979; Efron and Tibshirani, 1993, chapter 13).

Every number is a function of sums over the rows. One set of resamples serves all numbers of a report, so two models are always
compared on the same draws: every comparison is paired. Where rows depend on each other, whole clusters are drawn (Davison and
Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from engine.records.estimate import Estimate
from engine.stats.clusters import Clusters
from engine.stats.intervals import Array, estimate

BLOCK = 100  # resamples multiplied at once
DIGITS = 9  # decimals of an estimate


class Measure(NamedTuple):
    """A number as a function of sums over rows."""

    columns: Array  # (rows, k): what is summed
    of: Callable[[Array], Array]  # (..., k) sums -> (...) values, nan where undefined
    n: int  # items that the number counts over

    @property
    def point(self) -> float:
        """The number on the rows themselves; nan where undefined."""
        return float(self.of(self.columns.sum(axis=0)))


class Resamples:
    """`times` draws with replacement from `rows` rows, or from their `clusters`, as how often each was drawn."""

    def __init__(self, rows: int, *, times: int, level: float, seed: int, clusters: Clusters | None = None) -> None:
        units = rows if clusters is None else clusters.count
        draws = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / max(units, 1)), size=times)
        self.counts = draws.astype(np.uint16)  # 2 bytes a row and resample
        self.level, self.clusters = level, clusters

    def spread(self, measure: Measure) -> Array:
        """Return the value of `measure` in each resample, (times,)."""
        blocks = range(0, len(self.counts), BLOCK)
        columns = measure.columns if self.clusters is None else self.clusters.sums(measure.columns.T).T
        sums = [self.counts[start : start + BLOCK].astype(np.float64) @ columns for start in blocks]
        return measure.of(np.concatenate(sums))

    def estimate(self, measure: Measure) -> Estimate | None:
        """Return `measure` with its percentile interval; None where it is undefined."""
        point = measure.point
        if np.isnan(point):
            return None
        spread = self.spread(measure)
        tail = 50 * (1 - self.level)
        low, high = np.nanpercentile(spread, [tail, 100 - tail]) if not np.isnan(spread).all() else (point, point)
        return estimate(point, low, high, measure.n, digits=DIGITS)


class TwoWayBootstrap:
    """Resamples seeds and prompts independently (pigeonhole bootstrap: Owen, Annals of Applied Statistics 1, 2007).

    The same draws serve every subset, so differences are paired. With few seeds, the part of the variance that comes from the
    training is known roughly. Prompts of one cluster are drawn together (cluster bootstrap: Davison and Hinkley, 1997, section
    3.8): what holds for other prompts of the same kinds need not hold for prompts of other kinds.
    """

    def __init__(
        self, seeds: int, prompts: int, *, times: int, level: float, seed: int, clusters: Sequence[object] | None = None
    ) -> None:
        """`clusters`: the cluster of each prompt; None = each is its own."""
        draw = np.random.default_rng(seed)
        self.clusters = np.arange(prompts) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
        self.sizes = np.bincount(self.clusters)
        count = len(self.sizes)
        self.seeds = draw.multinomial(seeds, np.full(seeds, 1 / seeds), size=times)
        self.prompts = draw.multinomial(count, np.full(count, 1 / count), size=times)  # (times, clusters)
        self.level = level

    def value(self, right: Array, other: Array | None = None) -> Estimate:
        """Return the mean of `right`, (seeds, prompts), or of its difference to `other`, with a percentile interval."""
        cells = right.astype(np.float64) - (0 if other is None else other.astype(np.float64))
        return self._estimate(float(cells.mean()), self._sums(cells) / (len(cells) * (self.prompts @ self.sizes)), cells.size)

    def share(self, right: Array, other: Array) -> Estimate | None:
        """Return the mean over seeds of `right`, (seeds, prompts), by the sum of `other`, (prompts,), which is drawn with the same
        prompts; None if that is 0.
        """
        if not other.any():
            return None
        below = self.prompts @ np.bincount(self.clusters, other.astype(np.float64), len(self.sizes))
        point = float(right.sum() / (len(right) * other.sum()))
        return self._estimate(point, divide(self._sums(right.astype(np.float64)), len(right) * below), right.size)

    def _sums(self, cells: Array) -> Array:
        """Return the sum of `cells`, (seeds, prompts), in each resample, (times,)."""
        sums = np.stack([np.bincount(self.clusters, row, len(self.sizes)) for row in cells])
        blocks = (slice(start, start + BLOCK) for start in range(0, len(self.seeds), BLOCK))
        return np.concatenate([((self.seeds[block] @ sums) * self.prompts[block]).sum(axis=1) for block in blocks])

    def _estimate(self, point: float, spread: Array, n: int) -> Estimate:
        tail = 50 * (1 - self.level)
        low, high = np.nanpercentile(spread, [tail, 100 - tail])
        return estimate(point, low, high, n)


def mean(values: Array, among: Array | None = None) -> Measure:
    """Mean of `values`, (rows,), over the rows of the mask `among`, or all."""
    mask = np.ones(len(values)) if among is None else among.astype(np.float64)
    return Measure(np.column_stack([values * mask, mask]), lambda sums: divide(sums[..., 0], sums[..., 1]), int(mask.sum()))


def divide(above: Array, below: Array) -> Array:
    """Quotient, nan where `below` is 0."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) != 0)
