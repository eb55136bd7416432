"""Tests of a judge for biases: the labelled items in other forms, and what the scores reveal.

Every probe is a number that is 0 for a judge without the bias, with an interval. A bias counts as found only if the whole interval
lies beyond the limit. The intervals hold for all probes together (Bonferroni), so an unbiased judge is accused in at most 1 of 20
audits. Position and verbosity bias: Zheng et al., 2023, section 3.3; self-preference: Panickssery et al., 2024.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from engine.checks import canonical
from engine.contract.judges import Audit, GoldItem, Rubric
from engine.records.estimate import Estimate
from engine.records.judge import AuditProbe
from engine.rows import content_id
from engine.stats.intervals import LEVEL, Array, difference_of_means

PROBES = ("position", "padded", "shortened", "self_preference", "paraphrase")
LIMIT_OF = {"padded": "length", "shortened": "length"}
TWO_SIDED = {"position", "batches", "runs"}  # a bias in both directions; in the others only a gain is one


def padded(answer: str) -> str:
    """Return the answer twice: longer without saying more (the repetitive list attack of Zheng et al.)."""
    return f"{answer}\n\n{answer}"


def shortened(answer: str) -> str:
    """Return the first half of an answer: a wrong answer does not become right by it."""
    return answer[: max(1, len(answer) // 2)]


def family(model: str) -> str:
    """Return the leading letters of a model's name, which models of one family share: `a/SmolLM2-135M` -> `smollm`."""
    name = model.rstrip("/").rpartition("/")[2].lower()
    letters = re.match(r"[a-z]+", name)
    return letters[0] if letters else name


def rival_of(items: Sequence[GoldItem], index: int) -> str:
    """Return a rival for a labelled answer: its reference if that differs from the answer, else the answer of the next item."""
    item = items[index]
    if item.reference and canonical(item.reference) != canonical(item.answer):
        return item.reference
    return items[(index + 1) % len(items)].answer


def position(forward: Sequence[Sequence[float] | None], backward: Sequence[Sequence[float] | None]) -> Array:
    """Return each pair's preference for the first place, -1 to 1; 0 if the judge prefers the same answer in both orders.

    `forward` and `backward` hold the probabilities (first, second, neither) of each pair in both orders; unreadable pairs are left
    out, so the result is (pairs that were read,).
    """
    read = [(first, second) for first, second in zip(forward, backward, strict=True) if first is not None and second is not None]
    return np.array([(first[0] - first[1] + second[0] - second[1]) / 2 for first, second in read])


def gains(before: Sequence[float | None], after: Sequence[float | None]) -> Array:
    """Return the gain of each answer's score; answers that were not read both times are left out."""
    return np.array([new - old for old, new in zip(before, after, strict=True) if old is not None and new is not None])


def shifts(before: Sequence[float | None], after: Sequence[Sequence[float | None]]) -> Array:
    """Return each answer's mean absolute change of score over the rewordings `after` in which it could be read."""
    changes = [
        [abs(new - old) for new in scores if new is not None]
        for old, *scores in zip(before, *after, strict=True)
        if old is not None
    ]
    return np.array([np.mean(values) for values in changes if values])


def self_preference(
    items: Sequence[GoldItem], scores: Sequence[float | None], rubrics: Sequence[Rubric], *, level: float
) -> Estimate | None:
    """Return the mean score of answers by the judge's own family less that of others with the same label, over both labels."""
    own_families = {family(rubric.model.path) for rubric in rubrics}
    signed = [(item, score) for item, score in zip(items, scores, strict=True) if item.author and score is not None]
    centred: dict[bool, list[float]] = {True: [], False: []}
    for label in ("right", "wrong"):
        parts = {
            own: [score for item, score in signed if item.label == label and (family(item.author) in own_families) == own]
            for own in centred
        }
        if all(parts.values()):
            middle = float(np.mean([np.mean(parts[True]), np.mean(parts[False])]))  # both weigh the same, whatever their sizes
            for own, values in parts.items():
                centred[own] += [value - middle for value in values]
    return difference_of_means(np.array(centred[True]), np.array(centred[False]), level=level)


def judge_probes(estimates: Mapping[str, Estimate | None], audit: Audit, why: Mapping[str, str]) -> list[AuditProbe]:
    """Return the verdict of each of PROBES; `why` says of some why they could not be measured."""
    limits = audit.limits.model_dump()
    return [verdict(name, estimates.get(name), limits[LIMIT_OF.get(name, name)], why=why.get(name, "")) for name in PROBES]


def verdict(probe: str, estimate: Estimate | None, limit: float | None, *, why: str = "") -> AuditProbe:
    """Return the verdict of one probe (see `AuditProbe.verdict`); `why` is used if there is no estimate."""
    if estimate is None:
        empty = {"value": None, "low": None, "high": None, "n": 0}
        return AuditProbe(probe=probe, **empty, limit=limit, verdict="unmeasured", why=why or "too few items")
    low, high = estimate.low, estimate.high
    if probe in TWO_SIDED and high < 0:
        low, high = -high, -low
    largest = max(abs(low), abs(high)) if probe in TWO_SIDED else high
    if limit is None:
        return AuditProbe(probe=probe, **estimate.model_dump(), limit=None, verdict="measured")
    name = "beyond" if max(low, 0.0) > limit else "within" if largest <= limit else "unclear"
    return AuditProbe(probe=probe, **estimate.model_dump(), limit=limit, verdict=name)


def accusations(probes: Sequence[AuditProbe]) -> list[str]:
    """Return a sentence for each bias beyond its limit."""
    return [
        f"its bias `{probe.probe}` is {probe.value:.2f}, the contract tolerates {probe.limit:g}"
        for probe in probes
        if probe.verdict == "beyond"
    ]


def level_for(intervals: int) -> float:
    """Return the confidence level of each of several intervals that hold together at LEVEL (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(1, intervals)


def sample(items: Sequence[GoldItem], size: int) -> list[GoldItem]:
    """Return at most `size` items, drawn by hash, with as many of each label as there are."""
    shuffled = sorted(items, key=lambda item: content_id(item.input, item.answer))
    by_label = [[item for item in shuffled if item.label == label] for label in ("right", "wrong")]
    alternating = [item for both in zip(*by_label, strict=False) for item in both]
    return [*alternating, *(item for item in shuffled if item not in alternating)][:size]
