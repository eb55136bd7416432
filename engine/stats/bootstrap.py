"""Bootstrap intervals (percentile method: Efron, Annals of Statistics 7, 1979; Efron and Tibshirani, 1993, chapter 13).

Every number of the report is a function of sums over the holdout's rows. One set of resamples serves all of them, so that two
models are always compared on the same draws: every comparison is paired.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray
BLOCK = 100  # resamples multiplied at once


class Measure(NamedTuple):
    """A number as a function of sums."""

    columns: Array  # (rows of the holdout, k): what is summed
    of: Callable[[Array], Array]  # (..., k) sums -> (...) values, nan where undefined
    n: int  # how many things it counts over


class Resamples:
    """`times` draws with replacement from `rows` rows, as how often each row was drawn."""

    def __init__(self, rows: int, *, times: int, level: float, seed: int) -> None:
        draws = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / max(rows, 1)), size=times)
        self.counts = draws.astype(np.uint16)  # 2 bytes a row and resample
        self.level = level

    def spread(self, measure: Measure) -> Array:
        """Return the value of `measure` in each resample."""
        blocks = range(0, len(self.counts), BLOCK)
        sums = [self.counts[start : start + BLOCK].astype(np.float64) @ measure.columns for start in blocks]
        return measure.of(np.concatenate(sums))

    def value(self, measure: Measure) -> dict[str, Any] | None:
        """Return `{value, low, high, n}`, or None where the measure is undefined."""
        point = float(measure.of(measure.columns.sum(axis=0)))
        if np.isnan(point):
            return None
        spread = self.spread(measure)
        tail = 50 * (1 - self.level)
        low, high = np.nanpercentile(spread, [tail, 100 - tail]) if not np.isnan(spread).all() else (point, point)
        return {"value": _round(point), "low": _round(low), "high": _round(high), "n": measure.n}


def mean(values: Array, among: Array | None = None) -> Measure:
    """Mean of `values` over the rows of the mask `among`, or all."""
    mask = np.ones(len(values)) if among is None else among.astype(np.float64)
    return Measure(np.column_stack([values * mask, mask]), lambda sums: divide(sums[..., 0], sums[..., 1]), int(mask.sum()))


def divide(above: Array, below: Array) -> Array:
    """Quotient, nan where `below` is 0."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) != 0)


def _round(value: float) -> float:
    return round(float(value), 9)
