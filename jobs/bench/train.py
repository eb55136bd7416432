"""`rayleigh bench train`: the training of a student against TRL's SFTTrainer, against a bare script, and its objectives.

Model, examples, batch, precision and threads are those of a student of a finished run. Each side has a process of its own, and they
take turns round by round, so that a busy machine slows all alike; a ratio is taken within a round. `--json` prints a `TrainBench`.
"""

import os
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from engine.contract.models import VllmModel
from engine.contract.objectives import Objectives
from engine.contract.profile import load_profile
from engine.contract.students import Student
from engine.errors import InputError
from engine.inference.locate import locate
from engine.inference.token_budget import TEACHER_TOKENS, tokens_in
from engine.records.base import Record
from engine.runs.job import Job
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from engine.students.training import launch
from engine.students.training.state import TrainSpec
from jobs import places, workspace
from jobs.bench import train_capture, train_job, train_peer, train_sides
from jobs.bench.train_sides import Task
from jobs.bench.train_time import MINUTES, Clock, Log, Spent, measure
from jobs.bench.turns import Round, Side
from jobs.pipeline import student_job
from jobs.steps import initial_source
from jobs.steps import students as step
from jobs.terminal.console import columns
from jobs.terminal.session import set_environment
from jobs.workspace import Workspace


class Comparison(NamedTuple):
    """A ratio of seconds on the same examples."""

    above: str
    below: str


PARTS: dict[str, tuple[Comparison, ...]] = {
    "recipe": tuple(Comparison(way, "recipe") for way in train_peer.WAYS),
    "job": (
        Comparison("job", "bare"),
        Comparison("job, training", "bare, training"),
        Comparison("job, whole", "bare, whole"),
    ),
    "objectives": tuple(Comparison(way, "sft") for way in train_sides.OTHERS),
    "students": (Comparison("students, captured", "students"),),
}
"""Part -> the ratios that it gives."""


class Ratio(Record):
    """Seconds of one way by those of another, on the same examples, within a round."""

    above: str
    below: str
    value: float
    """Median over the rounds."""
    low: float
    """The least of them."""
    high: float
    """The greatest of them."""


class Way(Record):
    """One way to train."""

    tokens_per_second: float
    """Tokens of the examples, prompt and target, without padding; the median over the rounds."""
    seconds: list[float]
    """Of each round."""


class TrainBench(Record):
    """Ways to train a student of a run.

    `recipe`: the student's own training loop with DeepSpeed. `trl`: SFTTrainer with its defaults, which trains all parameters with
    gradient checkpointing; without it; and with the parameters frozen that the student's recipe freezes. `bare`: a plain script
    with the recipe's model, loss and order; `job`: the pipeline's job. Of both the steps alone; with validations and the export of
    the best weights (`training`); and with the start of processes and the loading of model and examples (`whole`). `sft` and
    others: steps with other objectives, in turn on each batch. `students`: all students of the contract, loading and steps, by
    `sft` alone; `captured`: half of it `forward_kl`, all from one capture.
    """

    run: str
    student: str
    steps: int
    """Optimizer steps of a round."""
    rounds: int
    """That were measured: fewer than ordered where another one would not have ended within the minutes."""
    tokens: int
    """Of the examples of a round."""
    capture: str
    """Folder of the run's capture; `made-up`, or "" if no part reads one."""
    teacher_tokens: int
    """That the run's ledger counts after the trainings, beyond those before them."""
    ways: dict[str, Way]
    ratios: list[Ratio]
    spent: tuple[Spent, ...] = ()


class Order(NamedTuple):
    """What is measured."""

    student: str | None
    """None = the last one of the contract."""
    steps: int
    rounds: int
    parts: Sequence[str]
    """Keys of PARTS; none = all."""
    minutes: float = MINUTES
    """No round begins that would not end within them, but the first."""


def bench(run: str, *, order: Order, profile: str, log: Log = lambda line: None) -> TrainBench:
    """Measure what is ordered on the dataset and tokens of the finished run `run`, which is only read.

    `log` gets a line about the time when the processes are ready, and after each round.

    Raises:
        InputError: there is no such part or student, or the student's objectives need more than examples.
        MissingArtifact: the run has no dataset or no tokens.
    """
    work = replace(workspace.reopen(run), profile=load_profile(places.profile_path(profile)))
    parts = list(dict.fromkeys(order.parts)) or list(PARTS)
    if unknown := [part for part in parts if part not in PARTS]:
        raise InputError(f"--part: found {unknown[0]!r}, expected one of {', '.join(PARTS)}.")
    set_environment(work.profile)
    os.environ.update(launch.environment(work.profile.trainer))  # before the processes of the sides import torch
    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as scratch:
        task = task_of(work, order)
        if reads := [part for part in parts if part in ("objectives", "students")]:
            task = replace(task, captured=_captured(work, Path(scratch)))
        before = tokens_in(work.folder / "ledger" / TEACHER_TOKENS)
        rounds, spent = measure(
            _sides(work, task, parts), task.steps, str(places.profile_path(profile)), Clock(order.rounds, order.minutes, log)
        )
    return TrainBench(
        run=str(work.folder),
        student=task.spec.student.name,
        steps=order.steps,
        rounds=len(rounds),
        tokens=next(iter(rounds[0].values())).count,
        capture=("made-up" if task.captured.startswith(scratch) else task.captured) if reads else "",
        teacher_tokens=tokens_in(work.folder / "ledger" / TEACHER_TOKENS) - before,
        ways=ways(rounds),
        ratios=ratios(rounds, [each for part in parts for each in PARTS[part]]),
        spent=tuple(spent),
    )


def ways(rounds: Sequence[Mapping[str, Round]]) -> dict[str, Way]:
    """Return the speed of each way."""
    return {
        name: Way(
            tokens_per_second=round(statistics.median(each[name].per_second for each in rounds), 1),
            seconds=[round(each[name].seconds, 3) for each in rounds],
        )
        for name in rounds[0]
    }


def ratios(rounds: Sequence[Mapping[str, Round]], comparisons: Sequence[Comparison]) -> list[Ratio]:
    """Return the ratio of seconds of each comparison, taken within a round."""
    found = []
    for above, below in comparisons:
        values = [each[above].seconds / each[below].seconds for each in rounds]
        value, low, high = (round(of(values), 3) for of in (statistics.median, min, max))
        found.append(Ratio(above=above, below=below, value=value, low=low, high=high))
    return found


def task_of(work: Workspace, order: Order) -> Task:
    """Return the trainings of the run's students, the one that is measured first."""
    names = [student.name for student in work.contract.students]
    chosen = order.student or names[-1]
    if chosen not in names:
        raise InputError(f"--student: found {chosen!r}, expected one of {', '.join(names)}.")
    ordered = [work.contract.student(name) for name in (chosen, *(name for name in names if name != chosen))]
    return Task(tuple(_spec(work, plain(student)) for student in ordered), order.steps)


def plain(student: Student) -> Student:
    """Return `student` trained by `sft` alone, with no end but its steps.

    Raises:
        InputError: it is cut with trainings in between, which are no part of its loop.
    """
    if student.init.shrink:
        raise InputError(f"--student: {student.name} has init.shrink, whose cuts are no part of its loop. Name another one.")
    update = {"early_stop": None, "metric": "loss", "max_seconds": None, "seeds": 1, "keep_seeds": False, "exports": ()}
    same = {"workers": 1, "validate_steps": None, "schedule": "cosine"}
    return student.model_copy(update={**update, **same, "objectives": Objectives()})


def _spec(work: Workspace, student: Student) -> TrainSpec:
    contract = work.contract.model_copy(update={"students": (student,)})
    job: Job = student_job(f"students/{student.name}")
    context = replace(work, contract=contract).context(job, log=lambda line: None, progress=lambda line: None)
    data, tokens = (workspace.finished(work.folder, name) for name in train_job.INPUTS)
    [plan] = step.planned(context, student, initial_source.place(context, student), data, tokens)
    return plan.spec


def _captured(work: Workspace, scratch: Path) -> str:
    """Return the folder of the run's capture, or of one that is made up in `scratch`."""
    if load_artifact(work.folder / "capture"):
        return f"{work.folder}/capture"
    model = next((each.model for each in work.contract.teachers.models if isinstance(each.model, VllmModel)), None)
    if model is None:
        raise InputError(f"{work.folder}: has no capture, and no teacher of type vllm from whose tokenizer one could be made up.")
    weights = locate(model.path, root=work.root, home=work.models, cache=work.profile.weights_cache)
    made = train_capture.capture(workspace.finished(work.folder, "dataset"), model, weights, Folder(str(scratch / "capture")))
    return made.folder.path


def _sides(work: Workspace, task: Task, parts: Sequence[str]) -> list[tuple[str, Side]]:
    """Return the processes that are measured, each with its part."""
    sides: dict[str, Sequence[Callable[..., None]]] = {
        "recipe": [partial(train_sides.recipe, task=task), partial(train_peer.trl, task=task)],
        "job": [partial(train_sides.bare, task=task), partial(train_job.job, task=task, work=work)],
        "objectives": [partial(train_sides.objectives, task=task)],
        "students": [partial(train_sides.students, task=task)],
    }
    return [(part, side) for part in parts for side in sides[part]]


def as_text(result: TrainBench) -> str:
    """Return a table of speeds, and one of ratios."""
    head = (
        f"student {result.student} of {result.run}: {result.rounds} rounds of {result.steps} steps, {result.tokens} tokens"
        f"{f'; capture: {result.capture}, {result.teacher_tokens} teacher tokens read' if result.capture else ''}"
    )
    speeds = [[name, f"{way.tokens_per_second:.1f}", f"{statistics.median(way.seconds):.2f}"] for name, way in result.ways.items()]
    shares = [[f"{each.above} / {each.below}", each.value, f"{each.low} to {each.high}"] for each in result.ratios]
    times = [[each.part, f"{each.start:.0f}", *(f"{seconds:.0f}" for seconds in each.rounds)] for each in result.spent]
    numbers = [f"round {number + 1}" for number in range(result.rounds)]
    tables = [columns(speeds, head=["way", "tokens/s", "seconds"]), columns(shares, head=["seconds of", "ratio", "rounds"])]
    if times:
        tables.append(columns(times, head=["seconds spent on", "start", *numbers]))
    return "\n\n".join([head, *tables])
