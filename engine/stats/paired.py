"""One model against another on the same prompts: the difference and the ratio of their exact match."""

import numpy as np

from engine.stats.bootstrap import Array, Measure, divide


def difference(right: Array, other: Array) -> Measure:
    """Share that this model gets right, less the other's share. Paired: both are drawn with the same rows."""
    columns = np.column_stack([right, other, np.ones(len(right))])
    return Measure(columns, lambda sums: divide(sums[..., 0] - sums[..., 1], sums[..., 2]), len(right))


def retention(right: Array, other: Array, among: Array | None = None) -> Measure:
    """What this model gets right over what the other does, on the rows of the mask `among` or all; nan if the other gets none."""
    mask = np.ones(len(right)) if among is None else among.astype(np.float64)
    columns = np.column_stack([right * mask, other * mask])
    return Measure(columns, lambda sums: divide(sums[..., 0], sums[..., 1]), int(mask.sum()))
