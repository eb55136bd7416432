"""Whether two models err together: agreement beyond what their accuracies alone would give.

Error consistency: Geirhos, Meding and Wichmann, NeurIPS 2020, section 2, equations 1 to 3. Chance-adjusted agreement of the answers
themselves (CAPA): Goel et al., "Great models think alike and this undermines AI oversight", ICML 2025, section 2, for hard
predictions. Both are Cohen's kappa with an expected agreement of two independent models.
"""

from collections.abc import Sequence

import numpy as np

from engine.records.estimate import Estimate
from engine.stats.bootstrap import Array, Measure, divide
from engine.stats.crossed import by_cluster
from engine.stats.intervals import estimate, wilson


def error_consistency(right: Array, other: Array) -> Measure:
    """Kappa of being right together or wrong together; both (rows,), 1 = right. 0 is chance, nan if either is never wrong."""
    columns = np.column_stack([right, other, right == other, np.ones(len(right))])
    return Measure(columns, lambda sums: _kappa(sums, wrong_by_chance=1.0), len(right))


def answer_agreement(right: Array, other: Array, same: Array, *, options: int | None = None) -> Measure:
    """Kappa of giving the same answer, right or wrong; all (rows,), 1 = right or the same.

    Two independent models that are both wrong give the same answer by chance in 1 of `options` - 1; None: of open answers never.
    """
    columns = np.column_stack([right, other, same, np.ones(len(right))])
    by_chance = 0.0 if options is None else 1 / max(1, options - 1)
    return Measure(columns, lambda sums: _kappa(sums, wrong_by_chance=by_chance), len(right))


def _kappa(sums: Array, *, wrong_by_chance: float) -> Array:
    rows = sums[..., 3]
    right, other, seen = (divide(sums[..., column], rows) for column in range(3))
    expected = right * other + (1 - right) * (1 - other) * wrong_by_chance
    return divide(seen - expected, 1 - expected)


def clustered(measure: Measure, clusters: Sequence[object]) -> Measure:
    """Return `measure` as sums over clusters, so that `Resamples` of as many rows as there are clusters draws whole clusters."""
    return measure._replace(columns=by_cluster(measure.columns.T, clusters).T)


def clustered_share(hits: Array, clusters: Sequence[object], *, level: float) -> Estimate | None:
    """Return the share of `hits`, (rows,) of 1 and 0, with Wilson's interval at the effective number of rows; None without rows.

    That number is the rows over the design effect: the variance between clusters over that of independent rows, at least 1 (Kish,
    "Survey Sampling", 1965, section 8.2; the interval: Dean and Pagano, Journal of Survey Statistics and Methodology 3, 2015).
    """
    rows = len(hits)
    if not rows:
        return None
    share = float(hits.mean())
    groups = by_cluster((hits - share)[None, :], clusters)[0]
    independent, size = share * (1 - share) * rows, len(groups)
    effect = max(1.0, float((groups**2).sum()) * size / max(1, size - 1) / independent) if independent else rows / size
    low, high = wilson(share * rows / effect, rows / effect, level=level)
    return estimate(share, low, high, rows)
