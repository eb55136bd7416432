"""The variance of a number that was measured by several trainings on the same prompts: both vary, and they cross.

Every training (a seed) answers every prompt, and prompts of one scenario go together. The variance of a mean over both is
V(seeds) + V(clusters) - V(interaction), each from its mean square in a two-way layout with random effects and one number a cell;
its degrees of freedom are those of Satterthwaite (Biometrics Bulletin 2, 1946). Studies of several readers and cases are analysed
like this (Hillis, Statistics in Medicine 26, 2007, equation 8). Unlike a bootstrap over a handful of seeds it has a heavy tail.
Any smooth number has such an interval: what a cell contributes to it is its influence (Efron and Tibshirani, 1993, section 22.6).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.records.estimate import Estimate
from engine.stats.intervals import MIN_VALUES, Array, estimate


class OfSeeds(NamedTuple):
    """The variance of a mean over seeds, from more trainings than those that are compared."""

    variance: float
    freedom: float


class Crossed(NamedTuple):
    """A number over seeds and prompts, with its variance."""

    value: float
    variance: float
    freedom: float
    """Degrees of freedom of the variance."""
    n: int
    """Cells, seeds times prompts."""

    def interval(self, level: float) -> Estimate:
        """Return the number with Student's interval."""
        from scipy.stats import t  # half a second of import

        half = float(t.ppf((1 + level) / 2, self.freedom)) * self.variance**0.5
        return estimate(self.value, self.value - half, self.value + half, self.n)

    @property
    def p_value(self) -> float:
        """Two-sided probability of a number at least this far from 0 if the truth is 0."""
        from scipy.stats import t

        if not self.variance:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * t.sf(abs(self.value) / self.variance**0.5, self.freedom))


def crossed(value: float, influence: Array, clusters: Sequence[object], of_seeds: OfSeeds | None = None) -> Crossed | None:
    """Return `value` with its variance; None below MIN_VALUES clusters.

    `influence` is (seeds, prompts): what each cell contributes to the seed's own value less the mean contribution; the value of a
    seed is `value` plus the sum of its row. `clusters` is (prompts,): prompts of one label are one cluster, "" is one by itself.
    With one seed the variance is that over prompts alone: nothing is known of another training. `of_seeds` replaces the variance
    between the seeds of `influence`, which two or three of them tell roughly.
    """
    cells = by_cluster(influence, clusters)
    seeds, groups = cells.shape
    if groups < MIN_VALUES:
        return None
    of_cluster = cells.mean(axis=0)
    between = float(groups * of_cluster.var(ddof=1))
    if seeds == 1:
        return Crossed(value, between, groups - 1, influence.size)
    of_seed, seed_freedom = of_seeds or (float(cells.sum(axis=1).var(ddof=1) / seeds), seeds - 1)
    rest = cells - of_cluster - cells.mean(axis=1, keepdims=True) + cells.mean()
    freedom = (seeds - 1) * (groups - 1)
    interaction = float((rest**2).sum() / freedom * groups / seeds)
    total = max(of_seed + between - interaction, of_seed, between)
    terms = of_seed**2 / seed_freedom + between**2 / (groups - 1) + interaction**2 / freedom
    return Crossed(value, total, max(1.0, total**2 / terms) if terms else groups - 1, influence.size)


def crossed_mean(cells: Array, clusters: Sequence[object], of_seeds: OfSeeds | None = None) -> Crossed | None:
    """Return the mean of `cells`, (seeds, prompts), with its variance; None below MIN_VALUES clusters."""
    return crossed(float(cells.mean()), (cells - cells.mean()) / cells.shape[1], clusters, of_seeds)


def pooled(every: Sequence[Array]) -> OfSeeds | None:
    """Return the variance of a mean over the seeds, pooled over sets of trainings, each (seeds, prompts); None with one seed.

    It takes the sets to differ in their means alone, not in how much a mean varies from training to training.
    """
    seeds = every[0].shape[0]
    if seeds < 2:
        return None
    return OfSeeds(float(np.mean([cells.mean(axis=1).var(ddof=1) for cells in every])) / seeds, len(every) * (seeds - 1))


def by_cluster(columns: Array, clusters: Sequence[object]) -> Array:
    """Return the sums over clusters of `columns`, (..., rows), as (..., clusters), in the order of their first rows."""
    number: dict[object, int] = {}
    named = [(0, row) if label in ("", None) else (1, label) for row, label in enumerate(clusters)]
    index = np.array([number.setdefault(name, len(number)) for name in named], dtype=np.int64)
    sums = np.zeros((len(number), *columns.shape[:-1]))
    np.add.at(sums, index, np.moveaxis(columns, -1, 0))
    return np.moveaxis(sums, 0, -1)
