"""Test of a quantile, such as the 95th percentile of latency, against a limit.

With enough values by order statistics, which assume nothing (Conover, "Practical Nonparametric Statistics", 1999, section 3.2;
`scipy.stats.quantile_test`). With fewer no order statistic bounds the quantile (59 values for the 95th percentile at 0.05), and the
bound is that of a log-normal distribution (Hahn and Meeker, "Statistical Intervals", 1991, section 4.4: noncentral t).
"""

import math
from typing import NamedTuple

import numpy as np

from engine.stats.intervals import Array


class QuantileTest(NamedTuple):
    """A quantile against a limit."""

    value: float
    low: float
    high: float
    """Ends of the interval of level 1 - 2 * the level of the test."""
    below: float
    """p-value of "the true quantile is at least the limit": small if it is proven to be below."""
    above: float
    """p-value of "the true quantile is at most the limit"."""
    method: str


def quantile(values: Array, share: float, *, limit: float, level: float) -> QuantileTest | None:
    """Return the test of the quantile `share` of `values`, (n,), all above 0; None below 2 values."""
    if len(values) < 2:
        return None
    value = float(np.percentile(values, 100 * share))
    if len(values) >= math.log(level) / math.log(share):
        return _by_order(values, share, value, limit, level)
    return _log_normal(np.log(values), share, value, math.log(limit), level)


def _by_order(values: Array, share: float, value: float, limit: float, level: float) -> QuantileTest:
    from scipy.stats import quantile_test

    sides = ("less", "greater")  # SciPy's stubs say that q is an int
    tests = {side: quantile_test(values, q=limit, p=share, alternative=side) for side in sides}  # pyright: ignore
    high = tests["less"].confidence_interval(1 - level).high
    low = tests["greater"].confidence_interval(1 - level).low
    below, above = float(tests["less"].pvalue), float(tests["greater"].pvalue)
    return QuantileTest(value, float(low), float(high), below, above, f"order statistics of {len(values)} values")


def _log_normal(logs: Array, share: float, value: float, limit: float, level: float) -> QuantileTest:
    from scipy.stats import nct, norm

    n, mean, spread = len(logs), float(logs.mean()), float(logs.std(ddof=1))
    shift = float(norm.ppf(share)) * math.sqrt(n)
    low, high = (math.exp(mean + float(nct.ppf(side, n - 1, shift)) * spread / math.sqrt(n)) for side in (level, 1 - level))
    method = f"log-normal tolerance bound of {n} values"
    if not spread:
        return QuantileTest(value, value, value, float(mean > limit), float(mean < limit), method)
    statistic = (limit - mean) / (spread / math.sqrt(n))
    below = float(nct.sf(statistic, n - 1, shift))
    return QuantileTest(value, low, high, below, 1 - below, method)
