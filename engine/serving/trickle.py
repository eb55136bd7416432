"""A trickle of labels: which requests a person is asked about, and the accuracy that the labels estimate.

Requests on which student and teacher disagree are drawn oftener, since they are wrong oftener; each label is weighted by the
inverse of the probability with which it was drawn (Horvitz and Thompson, JASA 47, 1952). The confidence of all requests serves as a
prediction, which the labels correct: the estimate is the mean confidence plus the weighted mean error of the confidence (the
difference estimator of survey sampling: Saerndal, Swensson and Wretman, 1992, section 6.3; with a model's predictions, prediction-
powered inference: Angelopoulos et al., Science 382, 2023). It is unbiased whatever the confidence is worth, and exacter if it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.contract.serving import Monitor
from engine.records.monitor import LabelledAccuracy
from engine.rows import content_id
from engine.stats.intervals import LEVEL, Array, estimate

DIGITS = 13  # hexadecimal digits of a hash that make a number between 0 and 1


class Draw(NamedTuple):
    """Whether a person is asked, and how probable that was."""

    asked: bool
    probability: float


def draw(row: str, disagrees: bool | None, section: Monitor) -> Draw:
    """Return whether the request `row` is labelled; the same id is always answered alike.

    `disagrees`: whether student and teacher gave different answers; None: the teacher was not asked.
    """
    probability = section.labels_disagreeing if disagrees else section.labels
    return Draw(uniform("label", row) < probability, probability)


def uniform(what: str, row: str) -> float:
    """Return a number in [0, 1) that depends on the id `row` and on `what` it is drawn for alone."""
    return int(content_id(what, row)[:DIGITS], 16) / 16**DIGITS


class Labelled(NamedTuple):
    """All n requests of a period, those without a label included."""

    predicted: Array  # (n,) confidence of the served answer; a constant where the model gives none
    probability: Array  # (n,) with which a label was asked for
    right: Array  # (n,) 1 = right, nan = not labelled
    labels: Sequence[object] | None = None


def accuracy(rows: Labelled, *, level: float = LEVEL) -> LabelledAccuracy:
    """Return the share of right answers among all requests, with a normal interval.

    Raises:
        ValueError: a labelled row has the probability 0.
    """
    labelled = ~np.isnan(rows.right)
    count, total = int(labelled.sum()), len(rows.right)
    if (rows.probability[labelled] <= 0).any():
        raise ValueError("a labelled row has the probability 0, expected that with which it was drawn")
    if count < 2:
        return LabelledAccuracy(labels=count, rows=total)
    from scipy.stats import norm

    weights = np.where(labelled, 1 / np.where(labelled, rows.probability, 1), 0.0)
    predicted = np.nan_to_num(rows.predicted, nan=float(np.nanmean(rows.predicted)) if np.isfinite(rows.predicted).any() else 0.5)
    terms = predicted + weights * np.where(labelled, np.nan_to_num(rows.right) - predicted, 0.0)
    value, error = float(terms.mean()), float(terms.std(ddof=1) / np.sqrt(total))
    half = float(norm.ppf((1 + level) / 2)) * error
    share = min(1.0, max(0.0, value))
    effective = share * (1 - share) / error**2 if error > 0 else float(count)
    return LabelledAccuracy(
        accuracy=estimate(share, max(0.0, value - half), min(1.0, value + half), count),
        labels=count,
        rows=total,
        effective=round(effective, 1),
    )
