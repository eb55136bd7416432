"""The learning curve over data: students on a quarter, half and all of the examples, and what twice the data would bring.

The law is error = a n^-b (Hestness et al., "Deep learning scaling is predictable, empirically", 2017, section 2; Viering and Loog,
"The shape of learning curves: a review", TPAMI 45, 2023, section 3: power laws fit well, no law fits always). It has no asymptote,
which three points could not tell from noise: so it rather promises too much, and a gain that is below `worth` is one that can be
trusted. Whether the curve is flatter at its end is measured besides. Fit: least squares of log error on log n.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.records.estimate import Estimate
from engine.rows import content_id
from engine.stats.crossed import crossed
from engine.stats.intervals import Array

SHARES = (0.25, 0.5, 1.0)
LAW = "power law without asymptote, error = a n^-b (Hestness et al., 2017)"
STEP = 1e-4  # of the derivatives, in exact match


class Fit(NamedTuple):
    """The law, fitted to the points of a curve."""

    exponent: float
    next_gain: Estimate
    flattening: Estimate
    """Exponent between the first two points less that between the last two."""


def draw(example_ids: Sequence[str], share: float, seed: int) -> list[str]:
    """Return a `share` of the examples, drawn by hash; those of a smaller share are among those of a larger one of this seed."""
    ranked = sorted(example_ids, key=lambda each: content_id("curve", seed, each))
    return sorted(ranked[: round(share * len(ranked))])


def fit(sizes: Sequence[int], exact: Sequence[Array], clusters: Sequence[object], *, level: float) -> Fit | str:
    """Return the law of `exact`, one (seeds, prompts) for each of `sizes`, rising; or why it cannot be fitted.

    Intervals are over seeds and prompts: a gain moves with each of the means as its derivative says (delta method).
    """
    if len(sizes) < 3 or len(set(sizes)) < len(sizes):
        return f"needs three different numbers of examples, found {list(sizes)}"
    if exact[0].shape[0] < 2:
        return "needs two seeds, as one training does not tell how much trainings differ"
    counts = np.array(sizes, dtype=np.float64)
    means = np.array([float(cells.mean()) for cells in exact])
    if means.min() <= 0:
        return "no student of one size answers a prompt right"
    least = 0.5 / exact[0].shape[1]  # a student without an error has half an error: the logarithm of 0 is no number

    def gain(rates: Array) -> float:
        slope, start = _line(counts, rates, least)
        return math.exp(start + slope * math.log(counts[-1])) - math.exp(start + slope * math.log(2 * counts[-1]))

    def bend(rates: Array) -> float:
        logs = np.log(np.maximum(1 - rates, least))
        slopes = -np.diff(logs) / np.diff(np.log(counts))
        return float(slopes[0] - slopes[-1])

    estimates = []
    for of in (gain, bend):
        slopes = [(of(means + step) - of(means - step)) / (2 * STEP) for step in np.eye(len(means)) * STEP]
        influence = np.sum(
            [slope * (cells - cells.mean()) / cells.shape[1] for slope, cells in zip(slopes, exact, strict=True)], axis=0
        )
        measured = crossed(of(means), influence, clusters)
        if measured is None:
            return "needs five clusters of prompts in the holdout"
        estimates.append(measured.interval(level))
    return Fit(round(-_line(counts, means, least)[0], 6), *estimates)


def _line(counts: Array, rates: Array, least: float) -> tuple[float, float]:
    slope, start = np.polyfit(np.log(counts), np.log(np.maximum(1 - rates, least)), 1)
    return float(slope), float(start)
