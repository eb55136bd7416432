"""From the answers to a few prompts to what all will take: pure arithmetic, with intervals over the drawn prompts.

A total over all prompts is the drawn prompts' sum times how many each of them stands for. What a pilot cannot see is None, and the
`basis` beside the numbers says by which rule each was found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.contract.budget import Price
from engine.inference.spending import FREE
from engine.rows import Row
from engine.stats.bootstrap import Array, Measure, Resamples
from engine.stats.intervals import wilson

Estimate = dict[str, Any] | None  # value, low, high
UNITS = ("rows", "tokens_in", "tokens_out", "seconds", "money", "bytes")
SUMS = ("answers", "tokens_in", "tokens_out", "engine_seconds", "money", "learnable", "size", "exam_in", "exam_out", "exam_money")


@dataclass(frozen=True)
class Rates:
    """What turns an answer into time and money."""

    price: Price
    at_once: Mapping[str, int]
    """Teacher -> answers that it works on at the same time, over all its actors, as its `seconds` count them."""
    remote: frozenset[str]
    """Teachers whose engine does not run on our machines."""
    pools: frozenset[str]
    """Pools that are learnt from."""


@dataclass(frozen=True)
class Pilot:
    """Sums over the answers to each drawn prompt, (p,) each, and how long they took."""

    sums: Mapping[str, Array]
    stands_for: int
    """Prompts that it was drawn from."""
    seconds: float
    """On the wall: loading models, and answering and judging the drawn prompts."""
    bytes: int
    """Of the drawn prompts' rows, as they were written."""
    tokens: Mapping[str, Array] = field(default_factory=dict)
    """Teacher -> tokens in and out of its answers to each drawn prompt, (p,)."""
    judge_tokens: Mapping[str, int] = field(default_factory=dict)
    """Rubric, or `signals` -> tokens that the pilot paid for."""

    @property
    def drawn(self) -> int:
        """Prompts in it."""
        return len(self.sums["answers"])

    @property
    def times(self) -> float:
        """Prompts that each drawn one stands for."""
        return self.stands_for / self.drawn


def sums(rows: Sequence[Mapping[str, Any]], prompt_ids: Sequence[str], rates: Rates) -> dict[str, Array]:
    """Return SUMS, each (p,) in the order of `prompt_ids`, over `rows` of CANDIDATE."""
    found = {name: np.zeros(len(prompt_ids)) for name in SUMS}
    where = {prompt_id: index for index, prompt_id in enumerate(prompt_ids)}
    samples: dict[tuple[str, str], int] = {}
    for row in rows:
        samples[row["prompt_id"], row["teacher"]] = samples.get((row["prompt_id"], row["teacher"]), 0) + 1
    for row in rows:
        one, teacher = where[row["prompt_id"]], row["teacher"]
        share = 1 / samples[row["prompt_id"], teacher]
        paid = (
            (0, 0, 0.0) if row["finish_reason"] in FREE else (row["tokens_in"] or 0, row["tokens_out"] or 0, row["seconds"] or 0.0)
        )
        tokens_in, tokens_out, seconds = paid
        found["answers"][one] += 1
        found["tokens_in"][one] += tokens_in
        found["tokens_out"][one] += tokens_out
        found["engine_seconds"][one] += seconds / rates.at_once.get(teacher, 1)
        found["money"][one] += rates.price.money(teacher, tokens_in, tokens_out, 0.0 if teacher in rates.remote else seconds)
        found["learnable"][one] = max(found["learnable"][one], float(row["pool"] in rates.pools))
        found["size"][one] += len(row["text"]) + len(row["answer"])
        found["exam_in"][one] += tokens_in * share
        found["exam_out"][one] += tokens_out * share
        found["exam_money"][one] += rates.price.money(teacher, tokens_in, tokens_out, 0.0) * share
    return found


def tokens_by_teacher(rows: Sequence[Row], prompt_ids: Sequence[str]) -> dict[str, Array]:
    """Return teacher -> tokens in and out of its paid answers to each prompt, (p,) in the order of `prompt_ids`."""
    index = {prompt_id: position for position, prompt_id in enumerate(prompt_ids)}
    tokens: dict[str, Array] = {}
    for row in rows:
        if row["finish_reason"] not in FREE:
            of_prompts = tokens.setdefault(row["teacher"], np.zeros(len(prompt_ids)))
            of_prompts[index[row["prompt_id"]]] += (row["tokens_in"] or 0) + (row["tokens_out"] or 0)
    return tokens


class Extrapolation:
    """Estimates of totals, all from the same resamples of the pilot."""

    def __init__(self, pilot: Pilot, *, times: int, level: float, seed: int) -> None:
        self.pilot, self.level = pilot, level
        self.resamples = Resamples(pilot.drawn, times=times, level=level, seed=seed)

    def total(self, name: str, *, times: float | None = None, plus: float = 0.0) -> Estimate:
        """Return the sum `name` of all prompts, or `times` that of the drawn ones, and `plus` what does not grow."""
        grow = self.pilot.times if times is None else times
        return self._of(name, lambda drawn: plus + grow * drawn)

    def tokens_of(self, teacher: str) -> Estimate:
        """Return the tokens of a teacher's answers to all prompts; None if it answered none of the drawn ones."""
        tokens = self.pilot.tokens.get(teacher)
        return None if tokens is None else self._of(tokens, lambda drawn: self.pilot.times * drawn)

    def count(self, name: str) -> Estimate:
        """Return how many prompts have `name`, which each has (1) or has not (0), with the score interval (Wilson, JASA 22, 1927).

        A bootstrap has no width where all or none of the drawn ones have it.
        """
        n, hits = self.pilot.drawn, float(self.pilot.sums[name].sum())
        low, high = wilson(hits, n, level=self.level)
        shares = {"value": hits / n, "low": low, "high": high}
        return {end: round(self.pilot.stands_for * value, 9) for end, value in shares.items()}

    def prompts_within(self, tokens: float) -> Estimate:
        """Return how many prompts so many tokens suffice for, at most all."""
        both = self.pilot.sums["tokens_in"] + self.pilot.sums["tokens_out"]
        return self._of(both, lambda drawn: np.minimum(self.pilot.stands_for, tokens * self.pilot.drawn / np.maximum(drawn, 1e-9)))

    def _of(self, values: str | Array, of: Any) -> Estimate:
        column = self.pilot.sums[values] if isinstance(values, str) else values
        estimate = self.resamples.estimate(Measure(column[:, None], lambda drawn: of(drawn[..., 0]), self.pilot.drawn))
        return estimate and {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def exactly(value: float | None) -> Estimate:
    """Return an estimate that is none: what was counted."""
    return None if value is None else {"value": value, "low": value, "high": value}


def entry(name: str, basis: str, **numbers: Estimate) -> dict[str, Any]:
    """Return what is said of one job: every one of UNITS, None where nothing is known."""
    return {"name": name, **{unit: numbers.get(unit) for unit in UNITS}, "basis": basis}


def candidates(found: Extrapolation) -> dict[str, Any]:
    """Return what the job `candidates` takes."""
    pilot = found.pilot
    basis = (
        "tokens, money, bytes: the pilot's, in proportion to prompts; seconds: the pilot's, as models load once, and for the other "
        "prompts the teachers' engine time, one teacher after the other; a judge that is slower than they takes longer"
    )
    return entry(
        "candidates",
        basis,
        rows=found.total("answers"),
        tokens_in=found.total("tokens_in"),
        tokens_out=found.total("tokens_out"),
        seconds=found.total("engine_seconds", times=pilot.times - 1, plus=pilot.seconds),
        money=found.total("money"),
        bytes=found.total("size", times=pilot.times * pilot.bytes / max(pilot.sums["size"].sum(), 1.0)),
    )


def dataset(found: Extrapolation) -> dict[str, Any]:
    """Return what can be said of the job `dataset`."""
    basis = "rows: those it reads; which of them are copies of each other, and how long that takes to find, a pilot cannot see"
    return entry("dataset", basis, rows=found.total("answers"))


def student(name: str, found: Extrapolation) -> dict[str, Any]:
    """Return what can be said of one training."""
    basis = (
        "rows: at most, one example for each prompt with an answer in a pool that is learnt from; copies and quotas take some away"
    )
    return entry(f"students/{name}", basis, rows=found.count("learnable"))


def reports(found: Extrapolation, *, models: int, holdout: int) -> dict[str, Any]:
    """Return what can be said of the job `reports`, in which each of `models` answers `holdout` prompts once."""
    basis = "rows: counted, without a champion; tokens and their price: the teachers answer the holdout once, as they did the pilot"
    each = holdout / found.pilot.drawn
    return entry(
        "reports",
        basis,
        rows=exactly(models * holdout),
        tokens_in=found.total("exam_in", times=each),
        tokens_out=found.total("exam_out", times=each),
        money=found.total("exam_money", times=each),
    )


def together(entries: Sequence[Mapping[str, Any]], unit: str) -> Estimate:
    """Return the sum of what is known of `unit`; its ends are the sums of the ends, so it is wider than it need be."""
    known = [one[unit] for one in entries if one[unit]]
    return {end: round(sum(one[end] for one in known), 9) for end in ("value", "low", "high")} if known else None
