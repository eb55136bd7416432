"""Whether a confidence is the probability of being right.

Expected calibration error with equal-width bins: Guo et al., ICML 2017, section 2, equation 3. Brier score: Brier, Monthly Weather
Review 78, 1950. Everywhere `confidence` is (n,) in 0 to 1, nan where there is none, and `right` is (n,), 1 or 0.
"""

import numpy as np

from engine.records.estimate import Estimate, ReliabilityBin
from engine.stats.bootstrap import Array, Measure, Resamples, divide, mean
from engine.stats.intervals import LEVEL, estimate

BINS = 10
DRAWS = 1000  # resamples of `ece_estimate`


def ece(confidence: Array, right: Array) -> Measure:
    """Expected calibration error; rows without a confidence are left out.

    The sum over bins of |accuracy - confidence| weighted by the bin's share is the sum of |right - confidence summed| over n.
    """
    defined = ~np.isnan(confidence)
    gaps = np.zeros((len(confidence), BINS + 1))
    rows = np.flatnonzero(defined)
    gaps[rows, bin_of(confidence[rows])] = right[rows] - confidence[rows]
    gaps[:, BINS] = defined
    return Measure(gaps, lambda sums: divide(np.abs(sums[..., :BINS]).sum(axis=-1), sums[..., BINS]), int(defined.sum()))


def ece_estimate(confidence: Array, right: Array, *, level: float = LEVEL) -> Estimate | None:
    """Return the expected calibration error with an interval of its own; None without items. Every item has a confidence.

    Resamples have a larger error than the items, as the mean of each bin strays; so the percentile interval is moved until its
    median is the number itself.
    """
    if not len(confidence):
        return None
    measure = ece(confidence, right)
    spread = Resamples(len(confidence), times=DRAWS, level=level, seed=0).spread(measure)
    low, high = measure.point + np.quantile(spread, [(1 - level) / 2, (1 + level) / 2]) - np.median(spread)
    return estimate(measure.point, max(0.0, low), min(1.0, high), measure.n)


def brier(confidence: Array, right: Array) -> Measure:
    """Mean squared distance between confidence and being right."""
    defined = ~np.isnan(confidence)
    return mean(np.where(defined, (np.nan_to_num(confidence) - right) ** 2, 0.0), defined)


def reliability_bins(confidence: Array, right: Array) -> list[ReliabilityBin]:
    """Return the BINS bins of the reliability diagram, lowest confidence first; rows without a confidence are left out."""
    defined = ~np.isnan(confidence)
    confidence, right = confidence[defined], right[defined]
    index_of = bin_of(confidence)
    return [_bin(index, confidence[index_of == index], right[index_of == index]) for index in range(BINS)]


def _bin(index: int, confidence: Array, right: Array) -> ReliabilityBin:
    means = [round(float(values.mean()), 6) if len(values) else None for values in (confidence, right)]
    bounds = {"low": index / BINS, "high": (index + 1) / BINS}
    return ReliabilityBin(**bounds, n=len(confidence), confidence=means[0], accuracy=means[1])


def bin_of(confidence: Array) -> Array:
    """Return the index of the bin (low, high] of each confidence; 0 belongs to the first."""
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
