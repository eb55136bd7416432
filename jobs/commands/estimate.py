"""From the answers to a few prompts to the size and cost of the whole run: pure arithmetic, with intervals over the drawn prompts.

A total over all prompts is the sum over the drawn prompts times the prompts that each of them represents. A number that a pilot
cannot measure is None; the `basis` of each entry names its rule.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.contract.budget import Price
from engine.contract.capture import Capture
from engine.contract.consumers import Consumer, consumers
from engine.contract.contract import Contract
from engine.inference.spending import FREE
from engine.records.plan import ConsumerPlan, JobPlan, Range
from engine.rows import Row
from engine.stats.bootstrap import Array, Measure, Resamples
from engine.stats.intervals import wilson

UNITS = ("rows", "tokens_in", "tokens_out", "seconds", "money", "bytes")
SUMS = ("answers", "tokens_in", "tokens_out", "engine_seconds", "money", "learnable", "size", "exam_in", "exam_out", "exam_money")
IN_PROPORTION = "the pilot's, in proportion to prompts"


@dataclass(frozen=True)
class Rates:
    """What turns an answer into time and money."""

    price: Price
    at_once: Mapping[str, int]
    """Teacher -> answers that it computes at the same time, over all its actors, as its `seconds` count them."""
    shares: Mapping[str, float]
    """Teacher -> share of a machine that one of its engines is priced as; 0 of one that does not run on our machines."""
    pools: frozenset[str]
    """Pools whose answers become examples."""


@dataclass(frozen=True)
class Pilot:
    """Sums over the answers to each drawn prompt, and the cost of the pilot itself."""

    sums: Mapping[str, Array]
    """Each of SUMS, (p,)."""
    represents: int
    """Prompts that the pilot was drawn from."""
    seconds: float
    """Wall time: loading the models, answering and judging."""
    bytes: int
    """Size of the rows on disk."""
    tokens: Mapping[str, Array] = field(default_factory=dict)
    """Teacher -> tokens in and out of its answers to each drawn prompt, (p,)."""
    judge_tokens: Mapping[str, int] = field(default_factory=dict)
    """Rubric, or `signals` -> tokens that the pilot paid for."""

    @property
    def drawn(self) -> int:
        """Drawn prompts."""
        return len(self.sums["answers"])

    @property
    def times(self) -> float:
        """Prompts that each drawn one represents."""
        return self.represents / self.drawn


def sums(rows: Sequence[Row], prompt_ids: Sequence[str], rates: Rates) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return SUMS and the tokens of each teacher, each (p,) in the order of `prompt_ids`, over `rows` of CANDIDATE."""
    totals = {name: np.zeros(len(prompt_ids)) for name in SUMS}
    tokens: dict[str, Array] = {}
    index = {prompt_id: position for position, prompt_id in enumerate(prompt_ids)}
    samples = Counter((row["prompt_id"], row["teacher"]) for row in rows)
    for row in rows:
        prompt, teacher = index[row["prompt_id"]], row["teacher"]
        is_paid = row["finish_reason"] not in FREE
        tokens_in, tokens_out, seconds = (is_paid * (row[name] or 0) for name in ("tokens_in", "tokens_out", "seconds"))
        share = 1 / samples[row["prompt_id"], teacher]
        values = {
            "answers": 1,
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
            "engine_seconds": seconds / rates.at_once.get(teacher, 1),
            "money": rates.price.money(teacher, tokens_in, tokens_out, seconds * rates.shares.get(teacher, 1.0)),
            "size": len(row["text"]) + len(row["answer"]),
            "exam_in": tokens_in * share,
            "exam_out": tokens_out * share,
            "exam_money": rates.price.money(teacher, tokens_in, tokens_out, 0.0) * share,
        }
        for name, value in values.items():
            totals[name][prompt] += value
        totals["learnable"][prompt] = max(totals["learnable"][prompt], row["pool"] in rates.pools)
        if is_paid:
            tokens.setdefault(teacher, np.zeros(len(prompt_ids)))[prompt] += tokens_in + tokens_out
    return totals, tokens


class Extrapolation:
    """Estimates of totals, all from the same resamples of the pilot."""

    def __init__(self, pilot: Pilot, *, times: int, level: float, seed: int) -> None:
        self.pilot, self.level = pilot, level
        self.resamples = Resamples(pilot.drawn, times=times, level=level, seed=seed)

    def total(self, values: str | Array, *, times: float | None = None, plus: float = 0.0) -> Range | None:
        """Return `plus` and the sum of `values`, (p,) or a name in SUMS, times `times`; by default over all prompts."""
        factor = self.pilot.times if times is None else times
        return self._range(self.pilot.sums[values] if isinstance(values, str) else values, lambda drawn: plus + factor * drawn)

    def count(self, name: str) -> Range:
        """Return the number of prompts of which the sum `name` is 1, not 0, with the score interval (Wilson, JASA 22, 1927).

        A bootstrap interval has no width where the sum is the same for all drawn prompts.
        """
        n, hits = self.pilot.drawn, float(self.pilot.sums[name].sum())
        low, high = wilson(hits, n, level=self.level)
        value, low, high = (round(self.pilot.represents * share, 9) for share in (hits / n, low, high))
        return Range(value=value, low=low, high=high)

    def prompts_within(self, tokens: float) -> Range | None:
        """Return the number of prompts for which `tokens` suffice, at most all."""
        pilot = self.pilot
        both = pilot.sums["tokens_in"] + pilot.sums["tokens_out"]
        return self._range(both, lambda drawn: np.minimum(pilot.represents, tokens * pilot.drawn / np.maximum(drawn, 1e-9)))

    def _range(self, column: Array, of: Callable[[Array], Array]) -> Range | None:
        measure = Measure(column[:, None], lambda drawn: of(drawn[..., 0]), self.pilot.drawn)
        estimate = self.resamples.estimate(measure)
        return estimate and Range.model_validate(estimate, from_attributes=True)


def exactly(value: float | None) -> Range | None:
    """Return a counted number as a range without width."""
    return None if value is None else Range(value=value, low=value, high=value)


def candidates(estimates: Extrapolation) -> JobPlan:
    """Return the plan of the job `candidates`."""
    pilot = estimates.pilot
    basis = (
        "tokens, money, bytes: the pilot's, in proportion to prompts; seconds: the pilot's, as models load once, and for the other "
        "prompts the teachers' engine time, one teacher after the other; a judge that is slower than they takes longer"
    )
    return JobPlan(
        name="candidates",
        rows=estimates.total("answers"),
        tokens_in=estimates.total("tokens_in"),
        tokens_out=estimates.total("tokens_out"),
        seconds=estimates.total("engine_seconds", times=pilot.times - 1, plus=pilot.seconds),
        money=estimates.total("money"),
        bytes=estimates.total("size", times=pilot.times * pilot.bytes / max(pilot.sums["size"].sum(), 1.0)),
        basis=basis,
    )


def dataset(estimates: Extrapolation) -> JobPlan:
    """Return the plan of the job `dataset`."""
    basis = "rows: those it reads; which of them are copies of each other, and how long that takes to find, a pilot cannot see"
    return JobPlan(name="dataset", rows=estimates.total("answers"), basis=basis)


def tokens(estimates: Extrapolation) -> JobPlan:
    """Return the plan of the job `tokens`."""
    basis = "rows: at most, as for the students; no model is asked"
    return JobPlan(name="tokens", rows=estimates.count("learnable"), basis=basis)


def capture(section: Capture, estimates: Extrapolation) -> JobPlan:
    """Return the plan of the job `capture`, which reads each example once for each teacher that scores it."""
    sums, scored = estimates.pilot.sums, _scored_by(section, estimates)
    basis = (
        "rows: at most, as of students; tokens in: prompt and answer of each of them, by each teacher that scores it; bytes: at "
        "most, 3 an entry and 3 a target token before compression"
    )
    size = sums["learnable"] * sums["exam_out"] * scored * (3 * section.entries + 3)
    return JobPlan(
        name="capture", rows=estimates.count("learnable"), tokens_in=estimates.total(_read(section, estimates)),
        bytes=estimates.total(size), basis=basis,
    )  # fmt: skip


def _scored_by(section: Capture, estimates: Extrapolation) -> float:
    """Return the teachers that score an example, divided by those whose answers `exam_in` and `exam_out` sum."""
    return (1 if section.teachers is None else len(section.teachers)) / max(1, len(estimates.pilot.tokens))


def _read(section: Capture, estimates: Extrapolation) -> Array:
    """Return the tokens that the capture reads for each drawn prompt, (p,)."""
    sums = estimates.pilot.sums
    return sums["learnable"] * (sums["exam_in"] + sums["exam_out"]) * _scored_by(section, estimates)


def _on_policy(contract: Contract, estimates: Extrapolation) -> Range | None:
    """Return the tokens that teachers read in the rounds of all students."""
    read = [student.on_policy for student in contract.students if student.on_policy and student.on_policy.teacher]
    names = {teacher.name for teacher in contract.teachers.models}
    counts = [
        (each.rounds * each.prompts_per_round * each.samples + (each.rounds + 1) * each.held_out, each.max_tokens)
        for each in read
        if each.teacher in names
    ]
    samples, written = sum(count for count, _ in counts), sum(count * most for count, most in counts)
    return estimates.total("exam_in", times=samples / estimates.pilot.drawn, plus=written)


def student(name: str, estimates: Extrapolation, *, validation: float) -> JobPlan:
    """Return the plan of one training; `validation` is the share of its examples that are for validation."""
    rows = estimates.count("learnable")
    basis = (
        "rows: at most, one example for each prompt with an answer in a pool that is learnt from; copies and quotas take some away"
    )
    held = f"; about {validation * rows.value:.0f} of them for validation"
    if validation * rows.high < 1:
        held = f"; too few for a validation split, which is {validation:g} of them: the training will be refused. Raise "
        held += "curation.pick.validation, or give more prompts"
    return JobPlan(name=f"students/{name}", rows=rows, basis=basis + held)


def reports(estimates: Extrapolation, *, models: int, holdout: int) -> JobPlan:
    """Return the plan of the job `reports`, in which each of `models` answers `holdout` prompts once."""
    basis = "rows: counted, without a champion; tokens and their price: the teachers answer the holdout once, as they did the pilot"
    names = {"tokens_in": "exam_in", "tokens_out": "exam_out", "money": "exam_money"}
    totals = {unit: estimates.total(name, times=holdout / estimates.pilot.drawn) for unit, name in names.items()}
    return JobPlan(name="reports", rows=exactly(models * holdout), **totals, basis=basis)


def together(plans: Sequence[JobPlan], unit: str) -> Range | None:
    """Return the sum of the known numbers of `unit`; its ends are the sums of the ends, so it is wider than it need be."""
    known = [plan for plan in (getattr(plan, unit) for plan in plans) if plan]
    ends = {end: round(sum(getattr(plan, end) for plan in known), 9) for end in ("value", "low", "high")}
    return Range(**ends) if known else None


def consumer_plans(contract: Contract, estimates: Extrapolation, *, synthesis: int | None) -> list[ConsumerPlan]:
    """Return the tokens of each consumer of a paid model; `synthesis` are the tokens of all written prompts."""
    plans = []
    for consumer in {consumer.payee: consumer for consumer in consumers(contract)}.values():
        tokens, basis = _consumer_tokens(contract, consumer, estimates, synthesis)
        names = {"kind": consumer.kind, "name": consumer.payee, "job": consumer.job, "cap": consumer.cap}
        plans.append(ConsumerPlan(**names, tokens=tokens, basis=basis))
    return plans


def _consumer_tokens(
    contract: Contract, consumer: Consumer, estimates: Extrapolation, synthesis: int | None
) -> tuple[Range | None, str]:
    pilot = estimates.pilot
    if consumer.kind == "synthesis":
        return exactly(synthesis), "measured: the prompts are written"
    if consumer.kind == "teacher":
        if consumer.payee not in pilot.tokens:
            return None, "not measured: none of the drawn prompts was answered by it"
        return estimates.total(pilot.tokens[consumer.payee]), IN_PROPORTION
    if consumer.kind == "repair":
        prompts = round(pilot.represents * (1 - float(pilot.sums["learnable"].mean())))
        return None, f"not measured: at most one reply for each prompt without an accepted answer, about {prompts} of them"
    if consumer.kind == "capture" and contract.capture:
        return estimates.total(_read(contract.capture, estimates)), f"at most: each example is read once; {IN_PROPORTION}"
    if consumer.kind == "on_policy":
        return _on_policy(contract, estimates), "at most: the teacher reads each sample of the rounds, all as long as allowed"
    paid = pilot.judge_tokens.get(consumer.payee, 0)
    if not paid:
        return None, "not measured: the pilot paid for nothing, as the ledger held it or no answer was worth a question"
    basis = IN_PROPORTION
    if consumer.kind in ("judge", "evidence") and contract.judges.calibrate:
        basis = f"at most: {IN_PROPORTION}; those of labelled items, which are paid once, are among them"
    return exactly(paid * pilot.times), basis
