"""How well scores and decisions agree with labels: Cohen's kappa and the area under the ROC curve, with intervals."""

import numpy as np

from engine.records.estimate import Estimate
from engine.stats.intervals import LEVEL, MIN_VALUES, Array, normal_interval


def cohen_kappa(counts: Array, *, level: float = LEVEL) -> Estimate | None:
    """Return the kappa (Cohen, 1960) of a square table of `counts`; None for an empty table.

    The interval uses the large-sample variance of Fleiss, Cohen and Everitt (1969). Where both raters give one and the same label
    to every item, kappa is 0/0; 0 is returned.
    """
    from statsmodels.stats.inter_rater import cohens_kappa  # a second of import

    total = int(counts.sum())
    if not total:
        return None
    if np.diag(counts).max() == total:
        return normal_interval(0.0, 0.0, total, low=-1.0, high=1.0, level=level)
    with np.errstate(all="ignore"):  # statsmodels also computes tests that divide by 0 where a rater uses one label only
        result = cohens_kappa(counts)
    return normal_interval(float(result.kappa), float(result.var_kappa), total, low=-1.0, high=1.0, level=level)


def roc_auc(scores: Array, is_positive: Array, *, level: float = LEVEL) -> Estimate | None:
    """Return the area under the ROC curve, ties counted half; None if one of the classes is empty.

    `scores` and the mask `is_positive` are (n,). The interval is that of DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988),
    computed from midranks (Sun and Xu, IEEE Signal Processing Letters 21, 2014).
    """
    from scipy.stats import rankdata

    positive, negative = scores[is_positive], scores[~is_positive]
    if not len(positive) or not len(negative):
        return None
    ranks = rankdata(scores)
    above = (ranks[is_positive] - rankdata(positive)) / len(negative)  # share of the other class that each score exceeds
    below = 1 - (ranks[~is_positive] - rankdata(negative)) / len(positive)
    variance = sum(float(np.var(shares, ddof=1)) / len(shares) if len(shares) > 1 else 0.25 for shares in (above, below))
    return normal_interval(float(above.mean()), variance, len(scores), low=0.0, high=1.0, level=level)


def roc_auc_of_histograms(positive: Array, negative: Array) -> Estimate | None:
    """Return the area under the ROC curve from two histograms over the same bins, lowest score first; ties count half.

    None below MIN_VALUES items of either class. The interval is that of Hanley and McNeil (Radiology 143, 1982).
    """
    num_positive, num_negative = positive.sum(), negative.sum()
    if min(num_positive, num_negative) < MIN_VALUES:
        return None
    below = np.cumsum(negative) - negative / 2
    area = float((positive * below).sum() / (num_positive * num_negative))
    both_positive, both_negative = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (
        area * (1 - area) + (num_positive - 1) * (both_positive - area**2) + (num_negative - 1) * (both_negative - area**2)
    ) / (num_positive * num_negative)
    return normal_interval(area, variance, int(num_positive + num_negative), low=0.0, high=1.0)
