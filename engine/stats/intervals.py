"""Proportions and means with confidence intervals. Every function returns None where there are too few values."""

from typing import NamedTuple

import numpy as np

from engine.records.estimate import Estimate

Array = np.ndarray
LEVEL = 0.95
"""Confidence level of an interval."""
MIN_VALUES = 5
"""Values from which on a mean has an interval."""


class Moments(NamedTuple):
    """Size, mean and variance of a sample."""

    size: int
    mean: float
    variance: float  # with size - 1 in the denominator; 0 for one value

    @classmethod
    def of(cls, values: Array) -> "Moments":
        """Return the moments of `values`, (n,)."""
        return cls(len(values), float(np.mean(values)), float(np.var(values, ddof=1)) if len(values) > 1 else 0.0)


def wilson(hits: float, total: float, *, level: float = LEVEL) -> tuple[float, float]:
    """Return the ends of the score interval of `hits` of `total` (Wilson, JASA 22, 1927); `total` > 0."""
    from statsmodels.stats.proportion import proportion_confint  # a second of import

    low, high = np.array(proportion_confint(hits, total, alpha=1 - level, method="wilson")).tolist()
    return max(0.0, low), min(1.0, high)


def proportion(hits: int, total: int, *, level: float = LEVEL) -> Estimate | None:
    """Return the share of hits with its score interval (`wilson`)."""
    return estimate(hits / total, *wilson(hits, total, level=level), total) if total else None


def mean(values: Array, *, level: float = LEVEL) -> Estimate | None:
    """Return the mean of `values`, (n,), with the interval of Student (1908); None below MIN_VALUES values."""
    if len(values) < MIN_VALUES:
        return None
    sample = Moments.of(values)
    half = _t_quantile(level, sample.size - 1) * np.sqrt(sample.variance / sample.size)
    return estimate(sample.mean, sample.mean - half, sample.mean + half, sample.size)


def difference_of_means(ours: Array, others: Array, *, level: float = LEVEL) -> Estimate | None:
    """Return mean(ours) - mean(others) with the interval of Welch; None below MIN_VALUES values of either."""
    if min(len(ours), len(others)) < MIN_VALUES:
        return None
    return difference_of_moments(Moments.of(ours), Moments.of(others), level=level)


def difference_of_moments(ours: Moments, others: Moments, *, level: float = LEVEL) -> Estimate:
    """Return the difference of two means with its interval (Welch, Biometrika 34, 1947)."""
    errors = [sample.variance / sample.size for sample in (ours, others)]
    total = sum(errors)
    terms = [error**2 / max(1, sample.size - 1) for error, sample in zip(errors, (ours, others), strict=True)]
    freedom = total**2 / sum(terms) if total else 1.0  # Welch-Satterthwaite
    value, half = ours.mean - others.mean, _t_quantile(level, freedom) * np.sqrt(total)
    return estimate(value, value - half, value + half, ours.size + others.size)


def normal_interval(value: float, variance: float, n: int, *, low: float, high: float, level: float = LEVEL) -> Estimate:
    """Return `value` with the normal interval of its `variance`, clipped to its range `low` to `high`."""
    from scipy.stats import norm

    half = norm.ppf((1 + level) / 2) * np.sqrt(max(0.0, variance))
    return estimate(value, max(low, value - half), min(high, value + half), n)


def estimate(value: float, low: float, high: float, n: int, *, digits: int = 6) -> Estimate:
    """Return the numbers as an `Estimate`, rounded to `digits` decimals."""
    value, low, high = (round(float(number), digits) for number in (value, low, high))
    return Estimate(value=value, low=low, high=high, n=int(n))


def _t_quantile(level: float, freedom: float) -> float:
    from scipy.stats import t  # half a second of import

    return float(t.ppf((1 + level) / 2, freedom))
