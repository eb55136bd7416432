"""Certifies the thresholds of a cascade on one part of a holdout, and measures the cascade on the other.

Whole clusters go to one part. The order in which thresholds are tested comes from the confidences of the other part, without its
labels. Several stages that need a threshold share `delta`, and the clusters of the certifying part: a later stage is asked only
what those before were unsure of, so it is certified on such rows alone, which took no part in setting the thresholds before.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from engine.contract.serving import Cascade
from engine.records.certificate import CascadeCheck, Certificate
from engine.rows import content_id
from engine.serving.curve import Graded, check
from engine.stats.intervals import Array
from engine.stats.selective import Answers, Bound, Promise, certify, order_of


class Holdout(NamedTuple):
    """Rows on which the stages answered, in one order for all of them."""

    ids: Sequence[str]  # of prompts
    labels: Sequence[object]  # cluster of each; a row by itself has its id

    @property
    def fingerprint(self) -> str:
        """Identity of the rows, in any order."""
        return content_id("holdout", *sorted(self.ids))


class Certified(NamedTuple):
    """Certificates of all stages but the last, and the cascade on rows that took no part in them."""

    certificates: dict[str, Certificate]
    thresholds: list[float | None]
    """Of all stages, in order; inf = not certified, so the stage answers nothing; None = the last."""
    check: CascadeCheck


def halves(labels: Sequence[object], seed: int = 0) -> Array:
    """Return the mask (n,) of the rows that certify: half of the clusters, drawn by a hash of their labels and `seed`."""
    ranked = sorted(set(map(str, labels)), key=lambda label: content_id("certify", seed, label))
    chosen = set(ranked[: (len(ranked) + 1) // 2])
    return np.array([str(label) in chosen for label in labels])


def certified(
    models: Mapping[str, Graded],
    holdout: Holdout,
    section: Cascade,
    deployments: Mapping[str, str],
    *,
    skipped: Mapping[str, Array] | None = None,
    seed: int = 0,
) -> Certified:
    """Return the certified cascade of `models`, the stages in order; the last one is the fallback and needs no threshold.

    A stage of `section` with a threshold of its own keeps it, uncertified. `deployments`: stage -> fingerprint. `skipped`: stage ->
    the rows (n,) that are outside the niche and do not come to it, see `outside_of`; its certificate is about the others.
    """
    mask = halves(holdout.labels, seed)
    skips = {name: np.zeros(len(mask), dtype=bool) for name in models} | dict(skipped or {})
    own = {stage.to: stage.threshold for stage in section.stages if stage.threshold is not None}
    names = list(models)
    open_stages = [name for name in names[:-1] if name not in own]
    promise = Promise(section.alpha, section.delta / max(1, len(open_stages)), section.starts, section.method)
    groups = _shared(holdout.labels, mask, max(1, len(open_stages)))
    certificates: dict[str, Certificate] = {}
    thresholds: list[float | None] = []
    for name in names[:-1]:
        if name in own:
            thresholds.append(own[name])
            continue
        before = names[: len(thresholds)]
        reached = ~skips[name]
        for stage, own_threshold in zip(before, thresholds, strict=True):
            reached &= ~_answered(models[stage], own_threshold, skips[stage])
        rows = groups[len(certificates)] & reached
        answers = _answers(models[name], holdout)
        order = order_of(answers.confidence[~mask & reached], int(rows.sum()), promise)
        bound = Bound(name, deployments.get(name, ""), holdout.fingerprint)
        certificates[name] = certify(answers.take(rows), promise, order, bound)
        if not rows.any() and skips[name][mask].all():
            reason = "every prompt that could certify it is outside the niche"
            certificates[name] = certificates[name].model_copy(update={"reason": reason})
        found = certificates[name].threshold
        thresholds.append(np.inf if found is None else found)
    thresholds.append(None)
    rest = {name: model.take(~mask) for name, model in models.items()}
    labels = [label for label, certifies in zip(holdout.labels, mask, strict=True) if not certifies]
    unasked = {name: rows[~mask] for name, rows in skips.items()}
    return Certified(certificates, thresholds, check(rest, thresholds, labels, skipped=unasked))


def outside_of(outside: Array, section: Cascade, names: Sequence[str], students: Collection[str]) -> dict[str, Array]:
    """Return for each stage the rows (n,) that do not come to it, being `outside` (n,) the niche: to no student, or to no stage."""
    return {name: outside for name in names if section.niche.outside == "abstain" or name in students}


def _answers(model: Graded, holdout: Holdout) -> Answers:
    """Return the answers with the confidence of an incomplete one taken away: it is never given."""
    confidence = np.where(model.sound > 0, model.confidence, np.nan)
    return Answers(confidence, model.right, holdout.ids, holdout.labels)


def _answered(model: Graded, threshold: float | None, skipped: Array) -> Array:
    """Return the mask (n,) of the rows that a stage before the last answers."""
    sure = np.nan_to_num(model.confidence, nan=-np.inf) >= (np.inf if threshold is None else threshold)
    return sure & (model.sound > 0) & ~skipped


def _shared(labels: Sequence[object], mask: Array, parts: int) -> list[Array]:
    """Return a mask (n,) for each part: the clusters of `mask`, dealt out."""
    names = sorted({str(label) for label, certifies in zip(labels, mask, strict=True) if certifies})
    names.sort(key=lambda label: content_id("stage", label))
    part_of = {name: number % parts for number, name in enumerate(names)}
    own = np.array([part_of.get(str(label), -1) for label in labels])
    return [own == number for number in range(parts)]
