"""From the judge's score to the probability that the answer is right, and what that is worth, learnt on labelled items."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from engine.contract.judges import Calibrate, Floor
from engine.errors import InputError
from engine.stats import intervals
from engine.stats.intervals import Array


class Curve(BaseModel):
    """The map itself."""

    model_config = ConfigDict(frozen=True)

    method: Literal["platt", "isotonic"]
    least: float
    """No probability is nearer to 0 or 1: nothing is certain after some items (Laplace's rule)."""
    slope: float = 0.0
    intercept: float = 0.0
    """Of the score's log odds, for `platt`."""
    scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()
    """Its corners, for `isotonic`."""

    def __call__(self, scores: Array) -> Array:
        """Return the probability that an answer of each score is right."""
        if self.method == "isotonic":
            found = np.interp(scores, self.scores, self.probabilities)
        else:
            found = 1 / (1 + np.exp(-(self.slope * log_odds(scores) + self.intercept)))
        return np.clip(found, self.least, 1 - self.least)


def fit(scores: Array, right: Array, method: Literal["platt", "isotonic"]) -> Curve:
    """Return the curve learnt from labelled scores.

    Raises:
        InputError: the labels are all the same.
    """
    if len(set(right.tolist())) < 2:
        raise InputError(
            f"judges.calibrate.gold: of the items that the judge could read {int(right.sum())} are right and {int((~right).sum())} "
            "wrong, expected some of each. Add labelled items, or take `calibrate` out of the contract."
        )
    least = 1 / (len(scores) + 2)
    return _platt(scores, right, least) if method == "platt" else _isotonic(scores, right, least)


def _platt(scores: Array, right: Array, least: float) -> Curve:
    """Logistic regression on the log odds in units of their spread: how wide scores lie says nothing of what they tell."""
    from sklearn.linear_model import LogisticRegression  # four seconds of import, once in the life of a judge

    odds = log_odds(scores)
    middle, spread = float(odds.mean()), float(odds.std()) or 1.0
    model = LogisticRegression(solver="newton-cholesky").fit(((odds - middle) / spread)[:, None], right)
    slope = float(model.coef_[0, 0]) / spread
    return Curve(method="platt", least=least, slope=slope, intercept=float(model.intercept_[0]) - slope * middle)


def _isotonic(scores: Array, right: Array, least: float) -> Curve:
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(out_of_bounds="clip").fit(scores, right.astype(float))
    corners = [tuple(float(one) for one in values) for values in (model.X_thresholds_, model.y_thresholds_)]
    return Curve(method="isotonic", least=least, scores=corners[0], probabilities=corners[1])


def cross_fitted(scores: Array, right: Array, groups: Sequence[str], section: Calibrate) -> tuple[Array, int]:
    """Return each item's probability by a curve that was fitted without it and its group, and the number of folds.

    Where a label is too rare for `section.folds`, there are fewer; with one item of a label there is 1: fitted on all.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(
        section.folds, *(len({group for group, one in zip(groups, right, strict=True) if one == label}) for label in (True, False))
    )
    if folds < 2:
        return fit(scores, right, section.method)(scores), 1
    found = np.zeros(len(scores))
    for learnt, held in StratifiedGroupKFold(folds).split(scores, right, groups):
        alike = len(set(right[learnt].tolist())) < 2  # a group may hold all of one label
        found[held] = right[learnt].mean() if alike else fit(scores[learnt], right[learnt], section.method)(scores[held])
    return found, folds


def agreement(scores: Array, confidence: Array, right: Array, threshold: float) -> dict[str, Any]:
    """Return how well the judge tells right from wrong: it says right where `confidence` reaches `threshold`.

    - kappa: agreement with the labels beyond chance; sensitivity: share of the right answers that it lets pass; specificity: share
      of the wrong ones that it stops; auc: of the score, to which nothing was fitted; ece: distance of confidence from truth
    - counts: [[wrong and stopped, right and stopped], [wrong and passed, right and passed]]; bins: of the reliability diagram
    """
    passed = confidence >= threshold
    counts = np.array([[np.sum((passed == says) & (right == is_right)) for is_right in (False, True)] for says in (False, True)])
    return {
        "kappa": intervals.kappa(counts),
        "sensitivity": intervals.share(int(counts[1, 1]), int(counts[:, 1].sum())),
        "specificity": intervals.share(int(counts[0, 0]), int(counts[:, 0].sum())),
        "auc": intervals.auc(scores, right),
        "ece": intervals.ece(confidence, right),
        "threshold": threshold,
        "base_rate": round(float(right.mean()), 6),
        "counts": counts.tolist(),
        "bins": intervals.bins(confidence, right),
    }


def by_error(errors: Sequence[str | None], passed: Sequence[bool]) -> dict[str, Any]:
    """Return, for each kind of planted error, the share of it that the judge stops."""
    seen, stopped = (
        Counter(filter(None, errors)),
        Counter(kind for kind, one in zip(errors, passed, strict=True) if kind and not one),
    )
    return {kind: intervals.share(stopped[kind], count) for kind, count in sorted(seen.items())}


def below(floor: Floor, found: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each number that does not reach the contract's floor. The number counts, not its interval."""
    said = []
    for name, wanted in floor.model_dump(exclude_none=True).items():
        value, at_most = (found.get(name) or {}).get("value"), name == "ece"
        if value is None or (value > wanted if at_most else value < wanted):
            shown, bound = "unknown" if value is None else f"{value:.2f}", "at most" if at_most else "at least"
            said.append(f"its {name} on the labelled items is {shown}, the contract wants {bound} {wanted:g}")
    return said


def log_odds(scores: Array) -> Array:
    """Return the log odds of probabilities, clipped so that 0 and 1 stay finite."""
    clipped = np.clip(scores, 1e-4, 1 - 1e-4)
    return np.log(clipped / (1 - clipped))
