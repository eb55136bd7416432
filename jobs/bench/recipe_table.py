"""The numbers of `rayleigh bench recipe`: exact match over seeds and mails, and paired differences to the first contract."""

from collections.abc import Mapping, Sequence
from statistics import median, stdev
from typing import Literal, NamedTuple

import numpy as np

from engine.contract.evaluation import Evaluation
from engine.records.base import Record
from engine.records.estimate import Estimate
from engine.records.student import StudentMetrics
from engine.stats.bootstrap import Array, TwoWayBootstrap
from jobs.terminal.console import columns, interval

Way = Literal["served", "schema", "free"]
WAYS: tuple[Way, ...] = ("served", "schema", "free")
"""With the answer schema and the spans of the mail, as a student is served; with the schema alone; and without any constraint."""
DIGITS = 6


class Decoded(Record):
    """Answers of all seeds, decoded in one way. Shares are of the mails."""

    by_seed: list[float]
    """Exact match of each training seed."""
    mean: Estimate
    """Its mean, with an interval over seeds and mails."""
    sd: float | None
    """Standard deviation over the seeds; null with one seed."""
    worst: float
    """The least of `by_seed`."""
    valid: float | None
    """Share of answers that fit the answer schema; null without one."""
    of_teacher: Estimate | None = None
    """Mean over that of the teacher on the same mails, which answers as it is served; null if the teacher has none right."""
    of_teacher_clustered: Estimate | None = None
    """The same; the interval draws mails of one phrasing together. The table shows this one."""
    worst_of_teacher: float | None = None
    """The same of the worst seed."""
    difference: Estimate | None = None
    """Mean less that of the first contract; the same seeds and mails on both sides. null for the first contract."""
    difference_clustered: Estimate | None = None
    """The same; the interval draws mails of one phrasing together."""


class StudentResult(Record):
    """A student of one contract."""

    contract: str
    """Label of the contract."""
    student: str
    trainings: list[str]
    """Names of the trainings in the folder, by seed; contracts with equal students share them."""
    parameters: int
    """Tied ones count once."""
    seconds: float
    """Median of a training, with its validations."""
    steps: list[int]
    """Optimizer steps of each seed."""
    ended_by: list[str]
    """What ended the training of each seed."""
    decoded: dict[Way, Decoded]
    """By each of WAYS."""


class Teacher(Record):
    """The best teacher on the mails."""

    name: str
    exact_match: Estimate
    parameters: int | None = None


class RecipeBench(Record):
    """Recipes of students on the same examples."""

    run: str
    """Whose examples all students learn from."""
    folder: str
    """With the trainings, and every answer in `answers/*/TRAINING/served`, `schema` and `free`."""
    seeds: int
    mails: int
    phrasings: int
    """Different phrasings of the mails; of `seen` ones training has others."""
    seen: int
    """Mails whose phrasing occurs in training."""
    level: float
    """Of the intervals."""
    teacher: Teacher | None
    """null if no teacher of the contract answers."""
    results: list[StudentResult]
    """The first contract's first."""


class Answers(NamedTuple):
    """What one model answered, in the order of the mails."""

    exact: Array  # (mails,) 1 = right
    valid: Array  # (mails,) 1 = fits the schema; nan without one


class TeacherAnswers(NamedTuple):
    """What a teacher answered."""

    name: str
    exact: Array  # (mails,) 1 = right
    parameters: int | None


class Measured(NamedTuple):
    """What is known of one student of a contract."""

    contract: str
    student: str
    trainings: list[str]
    metrics: list[StudentMetrics]
    answers: Mapping[Way, Sequence[Answers]]  # one for each seed


class Draws:
    """The resamples that all numbers share."""

    def __init__(self, seeds: int, scenarios: Sequence[str], section: Evaluation) -> None:
        options = {"times": section.bootstrap, "level": section.level, "seed": section.seed}
        self.mails = TwoWayBootstrap(seeds, len(scenarios), **options)
        self.phrasings = TwoWayBootstrap(seeds, len(scenarios), **options, clusters=scenarios)
        self.one = TwoWayBootstrap(1, len(scenarios), **options)


def teacher(name: str, exact: Array, parameters: int | None, draws: Draws) -> Teacher:
    """Return the numbers of a teacher that is right (1) or wrong (0) on each mail."""
    return Teacher(name=name, exact_match=draws.one.value(exact[None, :]), parameters=parameters)


def results(measured: Sequence[Measured], teacher: Array | None, draws: Draws) -> list[StudentResult]:
    """Return the result of each student; `teacher` is right (1) or wrong (0) on each mail.

    A student is compared with the one of the same name of the first contract, seed by seed and mail by mail.
    """
    first = {each.student: each for each in reversed(measured) if each.contract == measured[0].contract}
    found = []
    for each in measured:
        base = None if each.contract == measured[0].contract else first.get(each.student)
        ways: dict[Way, Decoded] = {way: decoded(each, base, way, teacher=teacher, draws=draws) for way in WAYS}
        found.append(
            StudentResult(
                contract=each.contract,
                student=each.student,
                trainings=each.trainings,
                parameters=each.metrics[0].parameters,
                seconds=round(median(metrics.seconds for metrics in each.metrics), 1),
                steps=[metrics.steps for metrics in each.metrics],
                ended_by=[metrics.ended_by for metrics in each.metrics],
                decoded=ways,
            )
        )
    return found


def decoded(each: Measured, base: Measured | None, way: Way, *, teacher: Array | None, draws: Draws) -> Decoded:
    """Return the numbers of one student decoded in one way, against the teacher's right answers, and against `base`."""
    level = 0.0 if teacher is None else float(teacher.mean())
    exact = matrix(each.answers[way])
    other = matrix(base.answers[way]) if base else None
    by_seed = [round(float(value), DIGITS) for value in exact.mean(axis=1)]
    valid = np.stack([answers.valid for answers in each.answers[way]])
    return Decoded(
        by_seed=by_seed,
        mean=draws.mails.value(exact),
        sd=round(stdev(by_seed), DIGITS) if len(by_seed) > 1 else None,
        worst=min(by_seed),
        valid=None if np.isnan(valid).all() else round(float(np.nanmean(valid)), DIGITS),
        of_teacher=None if teacher is None else draws.mails.share(exact, teacher),
        of_teacher_clustered=None if teacher is None else draws.phrasings.share(exact, teacher),
        worst_of_teacher=round(min(by_seed) / level, DIGITS) if level else None,
        difference=None if other is None else draws.mails.value(exact, other),
        difference_clustered=None if other is None else draws.phrasings.value(exact, other),
    )


def matrix(answers: Sequence[Answers]) -> Array:
    """Return 1 for a right answer and 0 for another, (seeds, mails)."""
    return np.stack([each.exact for each in answers])


def as_text(result: RecipeBench) -> str:
    """Return a table of exact match, and one of the differences to the first contract."""
    head = (
        f"{result.run}: {result.seeds} training seeds, {result.mails} mails of {result.phrasings} phrasings, {result.seen} of a "
        "phrasing that training has"
    )
    teacher = [f"teacher {result.teacher.name}: {interval(result.teacher.exact_match)}"] if result.teacher else []
    levels = (
        f"exact match; of teacher: its share of the teacher's, with {100 * result.level:g} % intervals over seeds and phrasings"
    )
    parts = ["\n".join([head, *teacher]), f"{levels}\n\n{_levels(result)}"]
    if any(each.decoded["served"].difference for each in result.results):
        parts += [f"less {result.results[0].contract}, with {100 * result.level:g} % intervals", _differences(result)]
    return "\n\n".join(parts)


def _levels(result: RecipeBench) -> str:
    ways = [head for way in WAYS for head in (way, "sd", "worst", "of teacher", "worst")]
    rows = []
    for each in result.results:
        numbers: list[str] = []
        for way in each.decoded.values():
            levels = [_number(value) for value in (way.mean.value, way.sd, way.worst)]
            numbers += [*levels, interval(way.of_teacher_clustered), _number(way.worst_of_teacher)]
        rows.append([each.contract, each.student, f"{each.parameters / 1e6:.1f} M", f"{each.seconds:.0f}", *numbers])
    return columns(rows, head=["contract", "student", "parameters", "seconds", *ways])


def _differences(result: RecipeBench) -> str:
    rows = []
    for each in result.results:
        if each.decoded["served"].difference:
            pairs = [(way.difference, way.difference_clustered) for way in each.decoded.values()]
            rows.append([each.contract, each.student, *(interval(one) for pair in pairs for one in pair)])
    ways = [f"{way}, {what}" for way in WAYS for what in ("by mail", "by phrasing")]
    return columns(rows, head=["contract", "student", *ways])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
