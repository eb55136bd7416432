"""Score tests of one proportion and of pairs against a threshold, with the intervals that invert them, for rows in clusters.

Every test compares (found - threshold) with its standard error *under the threshold*, widened by the design effect, by a Student
distribution with clusters - 1 degrees of freedom. A percentile bootstrap of a proportion near 1 covers far too rarely (0.57 for 40
rows at 0.98); a score interval has a width even where all rows are right.

    proportion   Wilson, JASA 22, 1927, with n / design effect rows and Student quantiles: Korn and Graubard, Survey Methodology 24,
                 1998; Dean and Pagano, Journal of Survey Statistics and Methodology 3, 2015
    ratio        of two paired proportions: Nam and Blackwelder, Statistics in Medicine 21, 2002
    difference   of two paired proportions: Tango, Statistics in Medicine 17, 1998; with threshold 0 it is McNemar's test, and
                 widened by the clusters it is near that of Durkalski et al., Statistics in Medicine 22, 2003

All functions take arrays with leading axes (...), so that a simulation is one call; rows are the last axis.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from engine.stats.clusters import Clusters, design_effect
from engine.stats.intervals import Array

HALVINGS = 40  # of an interval of theta in which an end is searched


class ScoreTest(NamedTuple):
    """A number against a threshold. All fields have the shape (...)."""

    value: Array
    low: Array
    high: Array
    """Ends of the interval of level 1 - 2 * the level of the test."""
    above: Array
    """p-value of "the true number is at most the threshold": small if it is proven to be above."""
    below: Array
    """p-value of "the true number is at least the threshold": small if it is proven to be below."""
    design: Array
    """Design effect."""


class Pairs(NamedTuple):
    """Rows of a 2 x 2 table of two models, as shares of all rows; each (...)."""

    mine: Array  # right by this model alone
    other: Array  # right by the other model alone
    both: Array
    rows: int

    @classmethod
    def of(cls, right: Array, others: Array) -> "Pairs":
        """Return the table of two models' (..., n) arrays of 1 = right."""
        mine, other, both = right * (1 - others), others * (1 - right), right * others
        return cls(mine.mean(axis=-1), other.mean(axis=-1), both.mean(axis=-1), right.shape[-1])


def proportion(hits: Array, clusters: Clusters, *, threshold: float, level: float) -> ScoreTest:
    """Return the test of the share of `hits`, (..., n) of 0 and 1, n > 0."""
    sums = clusters.sums(hits)
    some_hit, some_miss = (sums > 0).sum(axis=-1), (sums < clusters.sizes).sum(axis=-1)
    design = design_effect(hits, clusters, np.minimum(some_hit, some_miss))
    share, rows = hits.mean(axis=-1), clusters.rows / design
    variance = threshold * (1 - threshold) / rows
    above, below = _p_values(_ratio(share - threshold, np.sqrt(variance)), clusters)
    quantile = _quantile(level, clusters)
    middle = (share + quantile**2 / (2 * rows)) / (1 + quantile**2 / rows)
    half = quantile / (1 + quantile**2 / rows) * np.sqrt(share * (1 - share) / rows + quantile**2 / (4 * rows**2))
    return ScoreTest(share, np.maximum(0, middle - half), np.minimum(1, middle + half), above, below, design)


def ratio(right: Array, others: Array, clusters: Clusters, *, threshold: float, level: float) -> ScoreTest:
    """Return the test of the ratio of two models' shares of right rows, both (..., n); nan where the other is never right."""
    pairs = Pairs.of(right, others)
    mine, other = pairs.mine + pairs.both, pairs.other + pairs.both
    value = np.divide(mine, other, out=np.full(np.shape(mine), np.nan), where=np.asarray(other) > 0)
    residuals = right - np.nan_to_num(value)[..., None] * others
    design = _pair_design(right, others, residuals, clusters)

    def statistic(theta: Array) -> Array:
        return _ratio(mine - theta * other, np.sqrt(design * ratio_variance(pairs, theta) / pairs.rows))

    return _invert(statistic, value, design, clusters, (threshold, level), (0.0, 1e3))


def ratio_variance(pairs: Pairs, theta: Array | float) -> Array:
    """Return the variance of one row's (mine - theta * other) if the true ratio is `theta` (Nam and Blackwelder, equation 4)."""
    theta = np.asarray(theta, dtype=np.float64)
    mine, other = pairs.mine + pairs.both, pairs.other + pairs.both
    none = 1 - mine - pairs.other
    root = np.sqrt((mine - theta**2 * other) ** 2 + 4 * theta**2 * pairs.mine * pairs.other)
    below = 2 * theta * (theta + 1)
    by_other = np.divide(
        -mine + theta**2 * (other + 2 * pairs.mine) + root, below, out=np.zeros(np.shape(root)), where=np.asarray(below) > 0
    )
    by_mine = theta * by_other - (theta - 1) * (1 - none)
    return np.maximum(0, theta * (by_mine + by_other))


def difference(right: Array, others: Array, clusters: Clusters, *, threshold: float, level: float) -> ScoreTest:
    """Return the test of the difference of two models' shares of right rows, both (..., n).

    With threshold 0 and independent rows the p-values are those of McNemar's exact test with mid-p (Fagerland, Lydersen and Laake,
    BMC Medical Research Methodology 13, 2013).
    """
    pairs = Pairs.of(right, others)
    value = pairs.mine - pairs.other
    design = _pair_design(right, others, right - others, clusters)

    def statistic(delta: Array) -> Array:
        return _ratio(value - delta, np.sqrt(design * difference_variance(pairs, delta) / pairs.rows))

    test = _invert(statistic, value, design, clusters, (threshold, level), (-1.0, 1.0))
    if threshold or clusters.count < clusters.rows:
        return test
    above, below = mid_p(np.rint(pairs.mine * pairs.rows), np.rint(pairs.other * pairs.rows))
    return test._replace(above=above, below=below)


def difference_variance(pairs: Pairs, delta: Array | float) -> Array:
    """Return the variance of one row's (mine - other) if the true difference is `delta` (Tango, equation 7)."""
    delta = np.asarray(delta, dtype=np.float64)
    linear = -pairs.mine - pairs.other + (2 - pairs.mine + pairs.other) * delta
    root = np.sqrt(np.maximum(0, linear**2 + 8 * pairs.other * delta * (1 - delta)))
    by_other = (root - linear) / 4
    return np.maximum(0, 2 * by_other + delta * (1 - delta))


def mid_p(mine: Array, other: Array) -> tuple[Array, Array]:
    """Return the one-sided mid-p values of McNemar's exact test: of "not better" and of "not worse"."""
    from scipy.stats import binom

    discordant, half = mine + other, 0.5
    equal = half * binom.pmf(mine, discordant, half)
    return binom.sf(mine, discordant, half) + equal, binom.cdf(mine - 1, discordant, half) + equal


def _pair_design(right: Array, others: Array, residuals: Array, clusters: Clusters) -> Array:
    """Pairs that agree say nothing about how errors cluster, so only clusters with a pair that differs are informative."""
    informative = (clusters.sums(np.abs(right - others)) > 0).sum(axis=-1)
    return design_effect(residuals, clusters, informative)


def _invert(
    statistic: Callable[[Array], Array], value: Array, design: Array, clusters: Clusters, asked: tuple[float, float],
    limits: tuple[float, float],
) -> ScoreTest:  # fmt: skip
    """Return the test of a number whose `statistic` falls as the threshold rises; the ends are found by halving."""
    threshold, level = asked
    quantile = _quantile(level, clusters)
    ends = []
    for target, start, end in ((quantile, limits[0], value), (-quantile, value, limits[1])):
        low, high = (np.broadcast_to(np.asarray(each, dtype=np.float64), np.shape(value)) for each in (start, end))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            is_above = statistic(middle) > target
            low, high = np.where(is_above, middle, low), np.where(is_above, high, middle)
        ends.append((low + high) / 2)
    above, below = _p_values(statistic(np.full(np.shape(value), threshold)), clusters)
    return ScoreTest(value, ends[0], ends[1], above, below, design)


def _ratio(above: Array, below: Array) -> Array:
    """Return the quotient; plus or minus infinity where the standard error is 0 and the distance is not, else 0."""
    above, below = np.broadcast_arrays(np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64))
    tiny = below <= 1e-12
    far = np.where(np.abs(above) <= 1e-12, 0.0, np.where(above > 0, np.inf, -np.inf))
    return np.where(tiny, far, np.divide(above, below, out=np.zeros(above.shape), where=~tiny))


def _p_values(statistic: Array, clusters: Clusters) -> tuple[Array, Array]:
    from scipy.stats import t

    return t.sf(statistic, clusters.freedom), t.cdf(statistic, clusters.freedom)


def _quantile(level: float, clusters: Clusters) -> float:
    from scipy.stats import t

    return float(t.ppf(1 - level, clusters.freedom))
