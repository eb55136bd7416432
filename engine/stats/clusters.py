"""Rows that are not independent: the sums over clusters, their intra-cluster correlation, and the design effect.

Rows of one cluster (mails of one phrasing, children of one parent) tend to be right or wrong together, so n rows say as much as
n / design effect independent ones (Kish, "Survey Sampling", 1965, section 5.4; Donner and Klar, "Design and Analysis of Cluster
Randomization Trials in Health Research", 2000, section 1.4).
"""

from collections.abc import Sequence

import numpy as np

from engine.stats.intervals import Array

PRIOR_ICC = 0.5
"""Intra-cluster correlation that is assumed where nothing was measured; the default task's phrasings have 0.4 to 0.9."""
PRIOR_CLUSTERS = 2
"""Informative clusters that the assumption counts for, beside those of the sample."""


class Clusters:
    """The clusters of n rows. Rows with equal labels belong together; a row whose label is "" or None is a cluster by itself."""

    def __init__(self, labels: Sequence[object]) -> None:
        named = [(0, index) if label in ("", None) else (1, label) for index, label in enumerate(labels)]
        first: dict[object, int] = {}
        self.index = np.array([first.setdefault(name, len(first)) for name in named], dtype=np.int64)
        self.order = np.argsort(self.index, kind="stable")
        self.sizes = np.bincount(self.index) if len(named) else np.zeros(0, dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)
        self.rows, self.count = len(named), len(first)

    @property
    def mean_size(self) -> float:
        """Size of the cluster that a random row is in: the sum of squared sizes over the rows; 1 if every row is its own."""
        return float((self.sizes**2).sum() / self.rows) if self.rows else 1.0

    @property
    def freedom(self) -> int:
        """Degrees of freedom of a variance between clusters."""
        return max(1, self.count - 1)

    def sums(self, values: Array) -> Array:
        """Return the sums over clusters of `values`, (..., n), as (..., clusters)."""
        return np.add.reduceat(values[..., self.order], self.starts, axis=-1)

    def take(self, mask: Array) -> "Clusters":
        """Return the clusters of the rows of the mask (n,) alone."""
        return Clusters(self.index[mask].tolist())

    def repeat(self, times: Array) -> "Clusters":
        """Return the clusters of items, of which row i has `times[i]`."""
        return Clusters(np.repeat(self.index, times.astype(np.int64)).tolist())


def icc(residuals: Array, clusters: Clusters) -> Array:
    """Return the intra-cluster correlation of `residuals`, (..., n), each (...), between 0 and 1; 0 where they do not vary.

    One-way analysis of variance with clusters of unequal size (Ridout, Demetrio and Firth, Biometrics 55, 1999, equation 1).
    """
    rows, count = clusters.rows, clusters.count
    if count < 2 or count == rows:
        return np.zeros(residuals.shape[:-1])
    centred = residuals - residuals.mean(axis=-1, keepdims=True)
    squares = clusters.sums(centred) ** 2 / clusters.sizes
    between = squares.sum(axis=-1) / (count - 1)
    within = np.maximum(0, (centred**2).sum(axis=-1) - squares.sum(axis=-1)) / (rows - count)
    size = (rows - clusters.mean_size) / (count - 1)
    total = between + (size - 1) * within
    return np.clip(np.divide(between - within, total, out=np.zeros_like(total), where=total > 0), 0, 1)


def design_effect(residuals: Array, clusters: Clusters, informative: Array | float) -> Array:
    """Return the design effect of the mean of `residuals`, (..., n), each (...), at least 1.

    It is 1 + (mean_size - 1) icc. `informative`, (...), counts the clusters that tell something about the correlation, such as
    those with an error. Where they are few (a rate near 1), the estimate is far too small about as often as too large, and every
    interval that rests on it is too short just when the sample looks best: with a rate of 0.98 in clusters of 10 the lower end of
    the Wilson interval lay above the truth in 7 to 10 % of the draws instead of 2.5 %. So the estimate is averaged with PRIOR_ICC,
    which counts as PRIOR_CLUSTERS informative clusters; with a hundred of them it has no effect.
    """
    weight = np.asarray(informative, dtype=np.float64)
    rho = (PRIOR_CLUSTERS * PRIOR_ICC + weight * icc(residuals, clusters)) / (PRIOR_CLUSTERS + weight)
    return 1 + (clusters.mean_size - 1) * rho


def subset_design_effects(hits: Array, subsets: Array, clusters: Clusters) -> Array:
    """Return the design effect of the share of `hits`, (n,) of 0 and 1, in each of the masks `subsets`, (k, n), as (k,).

    The same as `design_effect` of the rows of each mask, for all of them at once; the informative clusters are those with a hit, or
    those with a miss, whichever are fewer.
    """
    sizes, sums = clusters.sums(subsets.astype(np.float64)), clusters.sums(subsets * hits)
    rows, count = sizes.sum(axis=1), (sizes > 0).sum(axis=1)
    share = np.divide(sums.sum(axis=1), rows, out=np.zeros(len(rows)), where=rows > 0)
    squares = np.divide((sums - share[:, None] * sizes) ** 2, sizes, out=np.zeros_like(sizes), where=sizes > 0).sum(axis=1)
    mean_size = np.divide((sizes**2).sum(axis=1), rows, out=np.ones(len(rows)), where=rows > 0)
    between = squares / np.maximum(1, count - 1)
    within = np.maximum(0, rows * share * (1 - share) - squares) / np.maximum(1, rows - count)
    total = between + ((rows - mean_size) / np.maximum(1, count - 1) - 1) * within
    varies = (total > 0) & (count > 1) & (count < rows)
    correlation = np.clip(np.divide(between - within, total, out=np.zeros_like(total), where=varies), 0, 1)
    informative = np.minimum((sums > 0).sum(axis=1), (sums < sizes).sum(axis=1))
    rho = (PRIOR_CLUSTERS * PRIOR_ICC + informative * correlation) / (PRIOR_CLUSTERS + informative)
    return 1 + (mean_size - 1) * rho
