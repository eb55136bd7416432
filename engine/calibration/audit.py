"""Whether a judge looks at what it should not: other shapes of the labelled items, and what their scores give away.

Every probe is a number that is 0 for a judge without the bias, with an interval. Only where the whole interval lies beyond the
limit is a judge accused; the intervals hold for all probes together (Bonferroni): an honest one is accused in 1 of 20 audits
at most. Position and verbosity: Zheng et al., 2023, section 3.3; self-preference: Panickssery et al., 2024.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.checks import canonical
from engine.contract.judges import Audit, GoldItem, Rubric
from engine.rows import content_id
from engine.stats import intervals
from engine.stats.intervals import Array, Estimate

PROBES = ("position", "padded", "shortened", "self_preference", "paraphrase")
LIMIT_OF = {"padded": "length", "shortened": "length"}
UNSIGNED = {"position", "batches", "runs"}  # both ways are a bias; of the others only a gain


def padded(answer: str) -> str:
    """Return an answer that says all of it twice, and so nothing more (the repetitive list of Zheng et al.)."""
    return f"{answer}\n\n{answer}"


def shortened(answer: str) -> str:
    """Return the first half of an answer: what was wrong is not right because of that."""
    return answer[: max(1, len(answer) // 2)]


def family(model: str) -> str:
    """Return what models of one house have in common: the letters that their name begins with."""
    name = model.rstrip("/").rpartition("/")[2].lower()
    found = re.match(r"[a-z]+", name)
    return found[0] if found else name


def rival_of(items: Sequence[GoldItem], index: int) -> str:
    """Return another answer for the labelled item: its reference if that says something else, else the answer of the next item."""
    item = items[index]
    if item.reference and canonical(item.reference) != canonical(item.answer):
        return item.reference
    return items[(index + 1) % len(items)].answer


def position(forth: Sequence[Sequence[float] | None], back: Sequence[Sequence[float] | None]) -> Array:
    """Return for each pair how much the judge likes the first place, -1 to 1: 0 if it chooses the same answer in both orders."""
    read = [(one, other) for one, other in zip(forth, back, strict=True) if one is not None and other is not None]
    return np.array([(one[0] - one[1] + other[0] - other[1]) / 2 for one, other in read])


def gains(before: Sequence[float | None], after: Sequence[float | None]) -> Array:
    """Return how much each answer's score grew; what could not be read both times is left out."""
    return np.array([new - old for old, new in zip(before, after, strict=True) if old is not None and new is not None])


def shifts(before: Sequence[float | None], after: Sequence[Sequence[float | None]]) -> Array:
    """Return how far each answer's score moves, up or down, on the mean over all wordings in which it could be read."""
    moved = [
        [abs(new - old) for new in those if new is not None] for old, *those in zip(before, *after, strict=True) if old is not None
    ]
    return np.array([np.mean(those) for those in moved if those])


def own_family(items: Sequence[GoldItem], scores: Sequence[float | None], rubrics: Sequence[Rubric], *, level: float) -> Estimate:
    """Return the score of answers by the judge's own family less that of others with the same label, over both labels."""
    ours = {family(rubric.model.path) for rubric in rubrics}
    signed = [(item, score) for item, score in zip(items, scores, strict=True) if item.author and score is not None]
    centred: dict[bool, list[float]] = {True: [], False: []}
    for label in ("right", "wrong"):
        parts = {
            own: [score for item, score in signed if item.label == label and (family(item.author) in ours) == own]
            for own in centred
        }
        if all(parts.values()):
            middle = float(np.mean([np.mean(parts[True]), np.mean(parts[False])]))  # of equal say, however many there are of each
            for own, values in parts.items():
                centred[own] += [value - middle for value in values]
    return intervals.gap(np.array(centred[True]), np.array(centred[False]), level=level)


def judged(found: Mapping[str, Estimate], audit: Audit, why: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one object a probe: probe, its estimate, limit, and what `verdict` says."""
    limits = audit.limits.model_dump()
    return [verdict(name, found.get(name), limits[LIMIT_OF.get(name, name)], why=why.get(name, "")) for name in PROBES]


def verdict(probe: str, estimate: Estimate, limit: float | None, *, why: str = "") -> dict[str, Any]:
    """Return what one probe shows: `beyond` if all of the interval lies beyond the limit, `within` if none of it does.

    `measured`: the contract sets no limit. `unmeasured`: there is nothing to measure it on, and `why`.
    """
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    head = {"probe": probe, **(estimate or nothing), "limit": limit}
    if estimate is None:
        return {**head, "found": "unmeasured", "why": why or "too few items"}
    if limit is None:
        return {**head, "found": "measured", "why": ""}
    low, high = estimate["low"], estimate["high"]
    if probe in UNSIGNED and high < 0:
        low, high = -high, -low
    least = max(low, 0.0)
    most = max(abs(low), abs(high)) if probe in UNSIGNED else high
    return {**head, "found": "beyond" if least > limit else "within" if most <= limit else "unclear", "why": ""}


def accusations(verdicts: Sequence[dict[str, Any]]) -> list[str]:
    """Return a sentence for each bias beyond its limit."""
    found = [one for one in verdicts if one["found"] == "beyond"]
    return [f"its bias `{one['probe']}` is {one['value']:.2f}, the contract lets {one['limit']:g} pass" for one in found]


def level_for(probes: int) -> float:
    """Return the level of each of some intervals that shall hold together (Bonferroni)."""
    return 1 - (1 - intervals.LEVEL) / max(1, probes)


def sample(items: Sequence[GoldItem], most: int) -> list[GoldItem]:
    """Return the items that are shown in other shapes: as many of each label as can be, by the hash of what they say."""
    by_label = [[item for item in _mixed(items) if item.label == label] for label in ("right", "wrong")]
    turns = [item for both in zip(*by_label, strict=False) for item in both]
    rest = [item for item in _mixed(items) if item not in turns]
    return [*turns, *rest][:most]


def _mixed(items: Sequence[GoldItem]) -> list[GoldItem]:
    return sorted(items, key=lambda item: content_id(item.input, item.answer))
