"""One model against another on the same prompts: the difference and the ratio of their exact match.

Both models are drawn with the same rows, so the interval of `Resamples.estimate` is a paired one.
"""

import numpy as np

from engine.stats.bootstrap import Array, Measure, divide


def difference(right: Array, other: Array) -> Measure:
    """Share that this model gets right, less the share of the other; both (rows,), 1 = right."""
    columns = np.column_stack([right, other, np.ones(len(right))])
    return Measure(columns, lambda sums: divide(sums[..., 0] - sums[..., 1], sums[..., 2]), len(right))


def retention(right: Array, other: Array, among: Array | None = None) -> Measure:
    """Rows that this model gets right over those of the other, among the mask `among` or all; nan if the other has none."""
    mask = np.ones(len(right)) if among is None else among.astype(np.float64)
    columns = np.column_stack([right * mask, other * mask])
    return Measure(columns, lambda sums: divide(sums[..., 0], sums[..., 1]), int(mask.sum()))
