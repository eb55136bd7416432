"""Whether a model's confidence means what it says.

Expected calibration error with equal-width bins: Guo et al., ICML 2017, section 2, equation 3. Brier score: Brier, 1950.
"""

from typing import Any

import numpy as np

from engine.stats.bootstrap import Array, Measure, divide, mean

BINS = 10


def ece(confidence: Array, right: Array) -> Measure:
    """Expected calibration error; rows without a confidence (nan) are left out.

    The sum over bins of |accuracy - confidence| weighted by the bin's share is the sum of |right - confidence summed| over n.
    """
    known = ~np.isnan(confidence)
    gaps = np.zeros((len(confidence), BINS + 1))
    rows = np.flatnonzero(known)
    gaps[rows, bin_of(confidence[rows])] = right[rows] - confidence[rows]
    gaps[:, BINS] = known
    return Measure(gaps, lambda sums: divide(np.abs(sums[..., :BINS]).sum(axis=-1), sums[..., BINS]), int(known.sum()))


def brier(confidence: Array, right: Array) -> Measure:
    """Mean squared distance between confidence and being right (1 or 0)."""
    known = ~np.isnan(confidence)
    return mean(np.where(known, (np.nan_to_num(confidence) - right) ** 2, 0.0), known)


def bins(confidence: Array, right: Array) -> list[dict[str, Any]]:
    """Return each bin's bounds, rows, mean confidence and accuracy (null in an empty bin), lowest first."""
    known = ~np.isnan(confidence)
    where = bin_of(confidence[known])
    found = []
    for index in range(BINS):
        inside = where == index
        n = int(inside.sum())
        found.append(
            {
                "low": index / BINS,
                "high": (index + 1) / BINS,
                "n": n,
                "confidence": round(float(confidence[known][inside].mean()), 6) if n else None,
                "accuracy": round(float(right[known][inside].mean()), 6) if n else None,
            }
        )
    return found


def bin_of(confidence: Array) -> Array:
    """Index of the bin (low, high] of each confidence; 0 belongs to the first."""
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
