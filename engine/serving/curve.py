"""Cost, accuracy and coverage of a student before a fallback, over all thresholds, from answers that are already there."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from engine.records.certificate import CascadeCheck, CascadeCurve, CurvePoint
from engine.stats.agreement import clustered_share
from engine.stats.bootstrap import Measure, Resamples, divide
from engine.stats.clusters import Clusters
from engine.stats.intervals import LEVEL, Array
from engine.stats.paired import difference

POINTS = 64  # of a curve, at most
TIMES = 1000  # bootstrap resamples
DIGITS = 6


class Graded(NamedTuple):
    """A model's answers to the n prompts of a holdout."""

    right: Array  # (n,) 1 = right
    confidence: Array  # (n,) nan where the model gives none
    sound: Array  # (n,) 1 = complete; any other answer is handed on
    price: Array | None  # (n,) of asking it; None = it was not timed

    def take(self, mask: Array) -> "Graded":
        """Return the rows of the mask (n,)."""
        price = None if self.price is None else self.price[mask]
        return Graded(self.right[mask], self.confidence[mask], self.sound[mask], price)


class Outcome(NamedTuple):
    """What a cascade did with n requests."""

    accepted: Array  # (n,) 1 = answered right
    stage: Array  # (n,) number of the stage that answered; -1 = none
    price: Array | None  # (n,) of all stages that were asked


def cascaded(stages: Sequence[Graded], thresholds: Sequence[float | None], skipped: Sequence[Array] = ()) -> Outcome:
    """Return what the stages do in order.

    A stage answers what is complete and at or above its threshold; None: whatever is complete. inf: it is not asked at all. What no
    stage answers is not right. `skipped`: for each stage the requests (n,) outside the niche that it is not asked about.
    """
    rows = len(stages[0].right)
    skipped = skipped or [np.zeros(rows, dtype=bool)] * len(stages)
    open_rows, stage, accepted = np.ones(rows, dtype=bool), np.full(rows, -1), np.zeros(rows)
    price: Array | None = np.zeros(rows)
    for number, (model, threshold, unasked) in enumerate(zip(stages, thresholds, skipped, strict=True)):
        if threshold == np.inf:
            continue
        asked = open_rows & ~unasked
        price = None if price is None or model.price is None else price + asked * model.price
        sure = np.ones(rows, dtype=bool) if threshold is None else np.nan_to_num(model.confidence, nan=-np.inf) >= threshold
        answers = asked & sure & (model.sound > 0)
        accepted, stage = np.where(answers, model.right, accepted), np.where(answers, number, stage)
        open_rows &= ~answers
    return Outcome(accepted, stage, price)


def curve(student: str, fallback: str, models: Mapping[str, Graded], *, answer_above: float | None = None) -> CascadeCurve:
    """Return the curve of `student` before `fallback`, at most POINTS thresholds at even coverages, and each alone."""
    first, last = models[student], models[fallback]
    known = first.confidence[np.isfinite(first.confidence)]
    quantiles = np.linspace(0, 1, POINTS)
    thresholds = np.unique(np.quantile(known, quantiles, method="lower"))[::-1].tolist() if len(known) else []
    points = tuple(_point(cascaded([first, last], [threshold, None]), threshold) for threshold in thresholds)
    alone = {name: _point(cascaded([models[name]], [None]), None) for name in (student, fallback)}
    return CascadeCurve(student=student, fallback=fallback, points=points, alone=alone, answer_above=answer_above)


def check(
    stages: Mapping[str, Graded],
    thresholds: Sequence[float | None],
    labels: Sequence[object],
    *,
    skipped: Mapping[str, Array],
    seed: int = 0,
) -> CascadeCheck:
    """Return what a cascade does on these rows, with intervals over the clusters `labels`; the last stage is the fallback.

    `skipped`: stage -> requests, see `cascaded`.
    """
    names, models = list(stages), list(stages.values())
    outcome, alone = cascaded(models, thresholds, [skipped[name] for name in names]), cascaded([models[-1]], [None])
    early = (outcome.stage >= 0) & (outcome.stage < len(models) - 1)
    clusters = Clusters(labels)
    resamples = Resamples(clusters.rows, times=TIMES, level=LEVEL, seed=seed, clusters=clusters)
    answered = [label for label, is_early in zip(labels, early, strict=True) if is_early]
    return CascadeCheck(
        n=clusters.rows,
        clusters=clusters.count,
        coverage=clustered_share(early.astype(np.float64), labels, level=LEVEL),
        risk=clustered_share(1 - outcome.accepted[early], answered, level=LEVEL),
        accuracy=clustered_share(outcome.accepted, labels, level=LEVEL),
        against_fallback=resamples.estimate(difference(outcome.accepted, alone.accepted)),
        cost_per_1000_accepted=_per_1000(outcome),
        cost_vs_fallback=None if (ratio := cost_ratio(outcome, alone)) is None else resamples.estimate(ratio),
        by_stage={name: round(float((outcome.stage == number).mean()), DIGITS) for number, name in enumerate(names)},
    )


def cost_ratio(outcome: Outcome, other: Outcome) -> Measure | None:
    """Return the price of a right answer of one cascade over that of another; None if a model was not timed."""
    if outcome.price is None or other.price is None:
        return None
    columns = np.column_stack([outcome.price, outcome.accepted, other.price, other.accepted])

    def ratio(sums: Array) -> Array:
        return divide(divide(sums[..., 0], sums[..., 1]), divide(sums[..., 2], sums[..., 3]))

    return Measure(columns, ratio, len(columns))


def _point(outcome: Outcome, threshold: float | None) -> CurvePoint:
    first = outcome.stage == 0
    total = None if outcome.price is None else round(1000 * float(outcome.price.mean()), DIGITS)
    return CurvePoint(
        threshold=threshold,
        coverage=round(float(first.mean()), DIGITS),
        accuracy=round(float(outcome.accepted.mean()), DIGITS),
        selective_accuracy=round(float(outcome.accepted[first].mean()), DIGITS) if first.any() else None,
        cost_per_1000=total,
        cost_per_1000_accepted=_per_1000(outcome),
    )


def _per_1000(outcome: Outcome) -> float | None:
    accepted = float(outcome.accepted.sum())
    return None if outcome.price is None or not accepted else round(1000 * float(outcome.price.sum()) / accepted, DIGITS)
