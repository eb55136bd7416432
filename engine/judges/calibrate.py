"""From a rubric's score to the probability that the answer is right (Platt, 1999), learnt on labelled items."""

from collections.abc import Sequence
from math import exp, isfinite

import numpy as np
from pydantic import BaseModel, ConfigDict

from engine.errors import InputError


class Calibration(BaseModel):
    """Logistic map of the score's log odds, and how well the score told right from wrong."""

    model_config = ConfigDict(frozen=True)

    slope: float
    intercept: float
    auc: float
    """Area under the ROC curve on the labelled items: 0.5 is no better than chance."""
    items: int
    base_rate: float
    """Share of right answers among the items."""

    def __call__(self, score: float) -> float:
        """Return the probability that an answer of this score is right."""
        return 1 / (1 + exp(-(self.slope * log_odds(score) + self.intercept)))


def fit(scores: Sequence[float], right: Sequence[bool]) -> Calibration:
    """Return the calibration learnt from labelled items.

    Raises:
        InputError: the labels are all the same.
    """
    if len(set(right)) < 2:
        raise InputError(f"judges.calibrate.gold: found {len(right)} items that are all {right[0]}, expected right and wrong ones.")
    from sklearn.linear_model import LogisticRegression  # four seconds of import, once in the life of a judge
    from sklearn.metrics import roc_auc_score

    odds = np.array([[log_odds(score)] for score in scores])
    model = LogisticRegression().fit(odds, np.array(right))
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    assert isfinite(slope) and isfinite(intercept)
    return Calibration(
        slope=slope, intercept=intercept, auc=float(roc_auc_score(right, scores)), items=len(right), base_rate=float(np.mean(right))
    )


def log_odds(score: float) -> float:
    """Return the log odds of a probability, clipped so that 0 and 1 stay finite."""
    clipped = min(max(score, 1e-4), 1 - 1e-4)
    return float(np.log(clipped / (1 - clipped)))
