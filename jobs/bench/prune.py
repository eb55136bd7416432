"""`rayleigh bench prune`: a student cut by importance in depth and width against the same student of hand-picked layers.

Both have the same number of parameters (the cut one up to 2 % less), data, recipe and seeds. Trainings and evaluations are jobs in
a folder of the benchmark's own, into which dataset and prompts of a finished run are copied: a second call, or one with more seeds,
runs only what is missing. `--json` prints a `PruneBench`.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from engine.contract.init import Init
from engine.contract.profile import load_profile
from engine.contract.shrink import Shrink
from engine.contract.students import Student
from engine.errors import InputError
from engine.records.base import Record
from engine.records.estimate import Estimate
from engine.records.student import StudentMetrics
from engine.rows import PREDICTION
from engine.runs.job import Job, JobContext, run_pipeline, unfinished
from engine.stats.bootstrap import TwoWayBootstrap
from engine.storage.artifact import RECORD, Artifact, RowCounts, load_artifact
from engine.storage.folder import Folder
from jobs import places, workspace
from jobs.pipeline import student_job, tokens_job
from jobs.terminal.console import Console, columns, interval
from jobs.workspace import Workspace

BY_HAND, BY_IMPORTANCE = "layers", "shrink"
KINDS = (BY_HAND, BY_IMPORTANCE)
INPUTS = ("prompts", "dataset")


class Order(NamedTuple):
    """What is trained."""

    seeds: int
    steps: int
    recover_steps: int
    epochs: int | None = None
    """None = as in the contract."""


class Side(Record):
    """Students of one init."""

    init: str
    """In words."""
    parameters: list[int]
    """Of each seed's student; tied ones count once."""
    shapes: list[str]
    """What was kept, by seed; empty for hand-picked layers."""
    seconds: list[float]
    """Seconds of training by seed; with those of the cuts and of the training between them."""
    by_seed: list[float]
    """Share of exact answers to the holdout."""
    exact_match: Estimate
    """Mean over seeds and prompts."""


class PruneBench(Record):
    """Two inits at equal parameters."""

    student: str
    """Name in the contract of the run."""
    seeds: int
    prompts: int
    """Prompts of the holdout."""
    by_hand: Side
    """`init.prune` of the contract."""
    by_importance: Side
    """`init.shrink` to the same number of parameters."""
    difference: Estimate
    """Exact match by importance less by hand; the same seeds and prompts on both sides."""


def bench(run: str, work: str, *, student: str, order: Order, profile: str) -> PruneBench:
    """Train and compare `student` of the finished run `run` in the folder `work`.

    Raises:
        InputError: the contract has no such student with hand-picked layers, it reads a capture, its objectives do not allow the
            cuts, or the folder `work` has examples of another run.
        MissingArtifact: the run has no dataset yet.
    """
    there, where = workspace.reopen(run), Folder(os.path.abspath(work))
    names = [each.name for each in there.contract.students if each.init.prune]
    if student not in names:
        raise InputError(f"--student: found {student!r}, expected one with init.prune: {', '.join(names) or 'there is none'}.")
    if there.contract.student(student).objectives.reads_capture:
        raise InputError(
            f"--student: {student} learns from the teacher's distribution, which this benchmark does not capture. Compare it with "
            "`rayleigh bench recipe`, or name a student without forward_kl, reverse_kl, jsd and uld."
        )
    if order.steps > 1 and order.recover_steps and not there.contract.student(student).objectives.reads_examples:
        raise InputError(
            f"--recover-steps: found {order.recover_steps}, expected 0 for {student}, whose objectives read pairs alone: they have "
            "their reference after the last cut. Or cut in one step: --steps 1."
        )
    for name in INPUTS:
        copied(workspace.finished(there.folder, name), where / name)
    there = replace(there, folder=where, profile=load_profile(places.profile_path(profile)))
    chosen, seeds = there.contract.student(student), range(order.seeds)
    by_hand = [copy(chosen, BY_HAND, seed, order) for seed in seeds]
    with workspace.locked(where):
        _run(_with(there, by_hand), trainings(by_hand))
        to = max(_metrics(there, each).parameters for each in by_hand)
        by_importance = [copy(chosen, BY_IMPORTANCE, seed, order, to=to) for seed in seeds]
        here = _with(there, [*by_hand, *by_importance])
        _run(here, trainings(by_importance))
        _run(here, evaluations(here.contract.students))
    return _result(here, student, order.seeds)


def copy(student: Student, kind: str, seed: int, order: Order, *, to: int = 0) -> Student:
    """Return `student` with one of KINDS as its init. All its layers are trained: those of a cut model are none of the source."""
    assert student.init.prune is not None
    init = student.init
    if kind == BY_IMPORTANCE:
        cut = Shrink(source=student.init.prune.source, to=to, steps=order.steps, recover_steps=order.recover_steps)
        init = Init(shrink=cut, vocabulary=student.init.vocabulary)
    name, epochs = f"{student.name}-{kind}-{seed}", order.epochs or student.epochs
    alone = {"seeds": 1, "keep_seeds": False, "exports": ()}
    return student.model_copy(update={"name": name, "seed": seed, "init": init, "freeze_layers": 0, "epochs": epochs, **alone})


def trainings(students: Sequence[Student]) -> list[list[Job]]:
    """Return the jobs that run at the same time: one training after the other."""
    return [[tokens_job(), student_job(f"students/{student.name}")] for student in students]


def evaluations(students: Sequence[Student]) -> list[list[Job]]:
    """Return the jobs that run at the same time: the evaluations of one seed's students after those of another's."""
    found = []
    for seed in sorted({student.seed for student in students}):
        names = [f"students/{student.name}" for student in students if student.seed == seed]
        found.append([Job(_predictions(seed), ("prompts", *names), ("specialist.task_units",), "jobs.bench.prune:examine")])
    return found


def examine(context: JobContext) -> RowCounts:
    """Let the students that the job needs answer the holdout."""
    from jobs.commands import ablate_trainings

    names = [need.rpartition("/")[2] for need in context.job.needs[1:]]
    students = tuple(context.contract.student(name) for name in names)
    return ablate_trainings.examine(replace(context, contract=context.contract.model_copy(update={"students": students})))


def copied(source: Artifact, target: Folder) -> None:
    """Copy a finished artifact of a run into a folder of trainings, unless it is there; its record comes last.

    Raises:
        InputError: the target is another artifact.
    """
    found = load_artifact(target)
    if found is None:
        for name in sorted(source.folder.files(), key=lambda name: name == RECORD):
            target.write(name, source.folder.read(name))
    elif found.fingerprint != source.fingerprint:
        raise InputError(
            f"--work: {target} is no copy of {source.folder}: the folder has trainings on other examples than those of the run, or "
            "answers to another holdout. Name another folder."
        )


def _with(work: Workspace, students: Sequence[Student]) -> Workspace:
    return replace(work, contract=work.contract.model_copy(update={"students": tuple(students)}))


def _metrics(work: Workspace, student: Student) -> StudentMetrics:
    return workspace.finished(work.folder, f"students/{student.name}").metrics(StudentMetrics)


def _run(work: Workspace, waves: Sequence[Sequence[Job]]) -> None:
    console = Console(sys.stderr)  # stdout is for the result of this command

    def context_for(job: Job) -> JobContext:
        return work.context(job, log=console.log, progress=console.progress)

    if not any(unfinished(wave, context_for) for wave in waves):
        return
    from jobs.terminal.session import ray_session

    with ray_session(work, console):
        for wave in waves:
            run_pipeline(wave, context_for)


def _predictions(seed: int) -> str:
    return f"predictions/{seed}"


def _result(work: Workspace, student: str, seeds: int) -> PruneBench:
    exact = {kind: np.array([_exact(work, f"{student}-{kind}-{seed}", seed) for seed in range(seeds)]) for kind in KINDS}
    section, prompts = work.contract.evaluation, exact[BY_HAND].shape[1]
    draws = TwoWayBootstrap(seeds, prompts, times=section.bootstrap, level=section.level, seed=section.seed)

    def side(kind: str) -> Side:
        students = [work.contract.student(f"{student}-{kind}-{seed}") for seed in range(seeds)]
        trained = [_metrics(work, each) for each in students]
        return Side(
            init=students[0].init.summary,
            parameters=[each.parameters for each in trained],
            shapes=[each.shape.as_text() for each in trained if each.shape],
            seconds=[round(each.seconds + (each.shape.seconds if each.shape else 0.0), 1) for each in trained],
            by_seed=[round(float(row.mean()), 6) for row in exact[kind]],
            exact_match=draws.value(exact[kind]),
        )

    difference = draws.value(exact[BY_IMPORTANCE], exact[BY_HAND])
    by_hand, by_importance = side(BY_HAND), side(BY_IMPORTANCE)
    return PruneBench(
        student=student, seeds=seeds, prompts=prompts, by_hand=by_hand, by_importance=by_importance, difference=difference
    )


def _exact(work: Workspace, name: str, seed: int) -> list[float]:
    table = workspace.finished(work.folder, _predictions(seed)).read("predictions", PREDICTION, ["model", "prompt_id", "exact"])
    rows = table.filter(pc.equal(table["model"], name)).sort_by("prompt_id")
    return [float(value or 0) for value in rows["exact"].to_pylist()]


def as_text(result: PruneBench) -> str:
    """Return a line for each init, and the difference."""
    rows = [
        [
            side.init,
            f"{np.mean(side.parameters) / 1e6:.2f} M",
            f"{np.mean(side.seconds):.0f}",
            interval(side.exact_match),
            " ".join(f"{value:.3f}" for value in side.by_seed),
        ]
        for side in (result.by_hand, result.by_importance)
    ]
    head = f"student {result.student}, {result.seeds} seeds, {result.prompts} prompts of the holdout"
    table = columns(rows, head=["init", "parameters", "seconds", "exact match", "by seed"])
    shapes = "\n".join(f"seed {seed}: {shape}" for seed, shape in enumerate(result.by_importance.shapes))
    return f"{head}\n\n{table}\n\nby importance less by hand: {interval(result.difference)}\n\n{shapes}"
