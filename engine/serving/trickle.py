"""A trickle of labels: which requests a person is asked about, and the accuracy that the labels estimate.

Requests on which student and teacher disagree are drawn oftener, since they are wrong oftener; each label is weighted by the
inverse of the probability with which it was drawn (Horvitz and Thompson, JASA 47, 1952). The confidence of all requests serves as a
prediction, which the labels correct: the estimate is the mean confidence plus the weighted mean error of the confidence (the
difference estimator of survey sampling: Saerndal, Swensson and Wretman, 1992, section 6.3; with a model's predictions, prediction-
powered inference: Angelopoulos et al., Science 382, 2023). It is unbiased whatever the confidence is worth, and exacter if it is.

Not all that were drawn are labelled at once. Within each stratum, requests with a disagreement and the others, labels are asked for
in the order of a hash, so that those labelled so far are a random part of those drawn: the probability of a label is that of the
draw times labelled / drawn. Without this factor a request that waits for its label would count as one whose confidence is right.
"""

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
    place: float
    """Between 0 and 1: those with the lowest are labelled first."""


def draw(row: str, disagrees: bool | None, section: Monitor) -> Draw:
    """Return whether the request `row` is labelled; the same id is always answered alike.

    `disagrees`: whether student and teacher gave different answers; None: the teacher was not asked.
    """
    probability = section.labels_disagreeing if disagrees else section.labels
    place = uniform("label", row)
    return Draw(place < probability, probability, place)


def uniform(what: str, row: str) -> float:
    """Return a number in [0, 1) that depends on the id `row` and on `what` it is drawn for alone."""
    return int(content_id(what, row)[:DIGITS], 16) / 16**DIGITS


class Labelled(NamedTuple):
    """All n requests of a period, those without a label included."""

    predicted: Array  # (n,) confidence of the served answer; a constant where the model gives none
    probability: Array  # (n,) with which a label was asked for
    right: Array  # (n,) 1 = right, nan = not labelled
    drawn: Array | None = None  # (n,) whether a label was asked for; None: all that were drawn are labelled
    stratum: Array | None = None  # (n,) rows of one are labelled in random order; None: all rows are one


def accuracy(rows: Labelled, *, level: float = LEVEL) -> LabelledAccuracy:
    """Return the share of right answers among all requests, with a normal interval.

    No interval with fewer than two labels, or if rows of a stratum were drawn and none of them is labelled.

    Raises:
        ValueError: a labelled row has the probability 0, or was not drawn.
    """
    labelled = ~np.isnan(rows.right)
    drawn = labelled if rows.drawn is None else rows.drawn.astype(bool)
    count, total, waiting = int(labelled.sum()), len(rows.right), int((drawn & ~labelled).sum())
    if (rows.probability[labelled] <= 0).any():
        raise ValueError("a labelled row has the probability 0, expected that with which it was drawn")
    if (labelled & ~drawn).any():
        raise ValueError("a labelled row was not drawn: its label would bias the estimate, leave it out")
    stratum = np.zeros(total) if rows.stratum is None else rows.stratum
    shares = {each: float(labelled[drawn & (stratum == each)].mean()) for each in np.unique(stratum[drawn])}
    if count < 2 or min(shares.values()) == 0:
        return LabelledAccuracy(labels=count, rows=total, waiting=waiting)
    from scipy.stats import norm

    probability = rows.probability * np.array([shares.get(each, 1.0) for each in stratum])
    weights = np.where(labelled, 1 / np.where(labelled, probability, 1), 0.0)
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
        waiting=waiting,
        effective=round(effective, 1),
    )
