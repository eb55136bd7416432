"""What filtering is worth: training sets of one size out of the same answers, each chosen by more of what is known of them.

    all            every answer that ended by itself
    rules          those that pass every check, where the prompt's samples agree as the contract wants
    without CHECK  the same without that one (`agreement` counts as one)
    judge          of `rules` the half that the rubric scores highest: a raw score has no threshold of its own
    calibrated     of `rules` those whose confidence the contract accepts

Of each prompt one answer is learnt, drawn by a hash among those that pass, so that no subset profits from knowledge it may not use.
All subsets have as many prompts as the smallest, drawn by a hash too: they share as many as they can, and differences are sharp.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from engine.contract.judges import Judges
from engine.rows import content_id
from engine.stats.bootstrap import Array

AGREEMENT = "agreement"
LEAST = 0.25  # of the prompts of `rules`: a smaller subset would cut all others down to its size
BLOCK = 100  # resamples at once


class Judged(NamedTuple):
    """What is known of one answer that ended by itself."""

    answer_id: str
    prompt_id: str
    failed: frozenset[str]
    """Checks that it does not pass; AGREEMENT where too few of the prompt's samples say the same."""
    score: float | None
    confidence: float | None


class Subset(NamedTuple):
    """A training set, or why it is none."""

    name: str
    what: str
    answers: int
    """That pass."""
    prompts: int
    """Of these answers."""
    chosen: tuple[str, ...] = ()
    """Ids of the answers that are learnt, one a prompt, sorted; none if the subset is left out."""
    left_out: str = ""
    """Why, "" if it is not."""

    @property
    def digest(self) -> str:
        """Of what is learnt."""
        return content_id(*self.chosen)


def judged(row: dict[str, Any], section: Judges) -> Judged:
    """Return what is known of a CANDIDATE row."""
    failed = {check["check"] for check in row["checks"] or () if not check["passed"]}
    if not failed and row["agreement"] is not None and row["agreement"] < section.accept.agreement:
        failed = {AGREEMENT}
    return Judged(row["answer_id"], row["prompt_id"], frozenset(failed), row["score"], row["confidence"])


def subsets(answers: Iterable[Judged], section: Judges) -> list[Subset]:
    """Return every subset of `answers`: those that are told apart, of one size, and those that are left out, with the reason."""
    known = sorted(answers)
    sets = [(name, what, [one for one in known if keeps(one)]) for name, what, keeps in _rungs(known, section)]
    least = LEAST * max((_prompts(kept) for name, _, kept in sets if name == "rules"), default=0)
    found: list[Subset] = []
    seen: dict[frozenset[str], str] = {}
    for name, what, kept in sets:
        ids = frozenset(one.answer_id for one in kept)
        why = f"the same answers as {seen[ids]}" if ids in seen else "" if _prompts(kept) > least else "too few prompts"
        seen.setdefault(ids, name)
        found.append(Subset(name, what, len(kept), _prompts(kept), left_out=why))
    size = min((one.prompts for one in found if not one.left_out), default=0)
    return list(_told_apart(found, [kept for _, _, kept in sets], size))


def _rungs(known: Sequence[Judged], section: Judges) -> Iterator[tuple[str, str, Callable[[Judged], bool]]]:
    yield "all", "every answer that ended by itself", lambda one: True
    yield "rules", "every check is passed, and the samples agree", lambda one: not one.failed
    for name in dict.fromkeys([*(check.type for check in section.checks), AGREEMENT]):
        yield f"without {name}", f"rules, but for {name}", lambda one, name=name: one.failed <= {name}
    scores = [one.score for one in known if not one.failed and one.score is not None]
    if scores:
        middle = median(scores)
        yield "judge", "rules, and the better half by the rubric's score", lambda one: not one.failed and (one.score or 0) >= middle
    if scores and section.calibrate:
        wanted = section.accept.confidence
        what = f"rules, and a calibrated confidence of at least {wanted:g}"
        yield "calibrated", what, lambda one: not one.failed and (one.confidence or 0) >= wanted


def _told_apart(found: Sequence[Subset], kept: Sequence[Sequence[Judged]], size: int) -> Iterator[Subset]:
    seen: dict[tuple[str, ...], str] = {}
    for subset, answers in zip(found, kept, strict=True):
        chosen = () if subset.left_out else _chosen(answers, size)
        if chosen in seen and chosen:
            yield subset._replace(left_out=f"of {size} prompts the same answers as {seen[chosen]}")
        else:
            seen[chosen] = subset.name
            yield subset._replace(chosen=chosen)


def _chosen(answers: Sequence[Judged], size: int) -> tuple[str, ...]:
    """One answer of each of `size` prompts, both by hash."""
    first: dict[str, str] = {}
    for one in sorted(answers, key=lambda one: content_id("answer", one.answer_id)):
        first.setdefault(one.prompt_id, one.answer_id)
    prompts = sorted(first, key=lambda prompt: content_id("prompt", prompt))[:size]
    return tuple(sorted(first[prompt] for prompt in prompts))


def _prompts(answers: Sequence[Judged]) -> int:
    return len(Counter(one.prompt_id for one in answers))


class TwoWayBootstrap:
    """Draws of seeds and of prompts with replacement, each by itself (the pigeonhole bootstrap: Owen, 2007).

    The same draws serve every subset, so differences are paired. With few seeds the share of the training's own chance is rough.
    """

    def __init__(self, seeds: int, prompts: int, *, times: int, level: float, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.seeds = draw.multinomial(seeds, np.full(seeds, 1 / seeds), size=times)
        self.prompts = draw.multinomial(prompts, np.full(prompts, 1 / prompts), size=times)
        self.level = level

    def value(self, right: Array, other: Array | None = None) -> dict[str, Any]:
        """Return {value, low, high, n} of the mean of `right` (seeds, prompts), less that of `other` if it is given."""
        cells = right.astype(np.float64) - (0 if other is None else other.astype(np.float64))
        tail = 50 * (1 - self.level)
        low, high = np.percentile(self._means(cells), [tail, 100 - tail])
        return {"value": _round(cells.mean()), "low": _round(low), "high": _round(high), "n": int(cells.size)}

    def _means(self, cells: Array) -> Array:
        found = []
        for start in range(0, len(self.seeds), BLOCK):
            block = slice(start, start + BLOCK)
            found.append(((self.seeds[block] @ cells) * self.prompts[block]).sum(axis=1))
        return np.concatenate(found) / cells.size


def _round(value: float) -> float:
    return round(float(value), 6)
