"""From the judge's score to the probability that the answer is right, and the quality of both, measured on labelled items."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from engine.contract.judges import Calibrate, Minimum
from engine.errors import InputError
from engine.records.estimate import Estimate
from engine.records.judge import CalibrationCurve, JudgeAgreement
from engine.stats.calibration import ece_estimate, reliability_bins
from engine.stats.discrimination import cohen_kappa, roc_auc
from engine.stats.intervals import Array, proportion


def probabilities(curve: CalibrationCurve, scores: Array) -> Array:
    """Return the probability that an answer of each score is right; both (n,)."""
    if curve.method == "isotonic":
        values = np.interp(scores, curve.scores, curve.probabilities)
    else:
        values = 1 / (1 + np.exp(-(curve.slope * log_odds(scores) + curve.intercept)))
    return np.clip(values, curve.clip, 1 - curve.clip)


def fit(scores: Array, right: Array, method: Literal["platt", "isotonic"]) -> CalibrationCurve:
    """Return the curve fitted to labelled scores; `scores` (n,) in 0 to 1, `right` (n,) bool.

    Raises:
        InputError: all labels are the same.
    """
    if len(set(right.tolist())) < 2:
        raise InputError(
            f"judges.calibrate.gold: of the items that the judge could read {int(right.sum())} are right and {int((~right).sum())} "
            "wrong, expected some of each. Add labelled items, or take `calibrate` out of the contract."
        )
    clip = 1 / (len(scores) + 2)
    return _platt(scores, right, clip) if method == "platt" else _isotonic(scores, right, clip)


def _platt(scores: Array, right: Array, clip: float) -> CalibrationCurve:
    """Logistic regression on standardised log odds, so that the regularisation does not depend on how far scores spread."""
    from sklearn.linear_model import LogisticRegression  # four seconds of import, once in the life of a judge

    odds = log_odds(scores)
    middle, spread = float(odds.mean()), float(odds.std()) or 1.0
    model = LogisticRegression(solver="newton-cholesky").fit(((odds - middle) / spread)[:, None], right)
    slope = float(model.coef_[0, 0]) / spread
    return CalibrationCurve(method="platt", clip=clip, slope=slope, intercept=float(model.intercept_[0]) - slope * middle)


def _isotonic(scores: Array, right: Array, clip: float) -> CalibrationCurve:
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(out_of_bounds="clip").fit(scores, right.astype(float))
    corners = [tuple(float(value) for value in values) for values in (model.X_thresholds_, model.y_thresholds_)]
    return CalibrationCurve(method="isotonic", clip=clip, scores=corners[0], probabilities=corners[1])


def cross_fit(scores: Array, right: Array, groups: Sequence[str], section: Calibrate) -> tuple[Array, int]:
    """Return the probability of each item by a curve that was fitted without its group, (n,), and the number of folds.

    Where a label is too rare for `section.folds`, there are fewer folds. With one group of a label there is 1: a single curve,
    fitted on all items.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups_of_label = ({group for group, value in zip(groups, right, strict=True) if value == label} for label in (True, False))
    folds = min(section.folds, *map(len, groups_of_label))
    if folds < 2:
        return probabilities(fit(scores, right, section.method), scores), 1
    confidence = np.zeros(len(scores))
    for train, test in StratifiedGroupKFold(folds).split(scores, right, groups):
        if len(set(right[train].tolist())) < 2:  # one group may hold all items of a label
            confidence[test] = right[train].mean()
        else:
            confidence[test] = probabilities(fit(scores[train], right[train], section.method), scores[test])
    return confidence, folds


def agreement(scores: Array, confidence: Array, right: Array, threshold: float) -> JudgeAgreement:
    """Return how well the judge tells right from wrong: it says right where `confidence` reaches `threshold`. All (n,)."""
    passed = confidence >= threshold
    counts = np.array([[np.sum((passed == p) & (right == r)) for r in (False, True)] for p in (False, True)])
    stopped_wrong, passed_right = int(counts[0, 0]), int(counts[1, 1])
    return JudgeAgreement(
        kappa=cohen_kappa(counts),
        sensitivity=proportion(passed_right, int(counts[:, 1].sum())),
        specificity=proportion(stopped_wrong, int(counts[:, 0].sum())),
        auc=roc_auc(scores, right),
        ece=ece_estimate(confidence, right),
        threshold=threshold,
        base_rate=round(float(right.mean()), 6),
        counts=((stopped_wrong, int(counts[0, 1])), (int(counts[1, 0]), passed_right)),
        bins=tuple(reliability_bins(confidence, right)),
    )


def stopped_by_error(errors: Sequence[str | None], passed: Sequence[bool]) -> dict[str, Estimate]:
    """Return, for each kind of planted error, the share of it that the judge stops."""
    totals = Counter(filter(None, errors))
    stopped = Counter(kind for kind, is_passed in zip(errors, passed, strict=True) if kind and not is_passed)
    shares = {kind: proportion(stopped[kind], total) for kind, total in sorted(totals.items())}
    return {kind: share for kind, share in shares.items() if share}


def shortfalls(minimum: Minimum, measured: JudgeAgreement) -> list[str]:
    """Return a sentence for each number that misses the contract's minimum. The number counts, not its interval."""
    sentences = []
    for name, bound in minimum.model_dump(exclude_none=True).items():
        estimate: Estimate | None = getattr(measured, name)
        at_most = name == "ece"
        if estimate is None or (estimate.value > bound if at_most else estimate.value < bound):
            value, relation = "unknown" if estimate is None else f"{estimate.value:.2f}", "at most" if at_most else "at least"
            sentences.append(f"its {name} on the labelled items is {value}, the contract wants {relation} {bound:g}")
    return sentences


def log_odds(scores: Array) -> Array:
    """Return the log odds of probabilities, clipped so that 0 and 1 stay finite."""
    clipped = np.clip(scores, 1e-4, 1 - 1e-4)
    return np.log(clipped / (1 - clipped))
