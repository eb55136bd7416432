"""Trainings on sets of examples for `rayleigh ablate`, and how their students do on the holdout.

Each training set, each training and each evaluation is an artifact below `RUN/ablation`, named by the set and a hash of its
content: a second call, or one with more seeds, runs only what is missing.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.profile import load_profile
from engine.contract.students import Student
from engine.errors import InputError, MissingArtifact
from engine.records.record import ArtifactRecord
from engine.rows import HOLDOUT, PREDICTION, Row
from engine.runs.job import Job, JobContext, run_pipeline, unfinished
from engine.storage.artifact import RowCounts, load_artifact
from jobs import places, workspace
from jobs.pipeline import student_job, tokens_job
from jobs.terminal.console import Console
from jobs.workspace import Workspace

ABLATION = "ablation"
SUPERVISE = "supervise"
"""Key in the metrics of a training set whose students are asked otherwise than the contract's: `supervise` of the task units."""
EXAMINE = "jobs.commands.ablate_trainings:examine"


class Plan(NamedTuple):
    """A training set, and who learns it."""

    prefix: str
    """Folder of its artifacts, relative to the run."""
    make: str
    """`module:function` of the job that writes its examples."""
    reads: tuple[str, ...]
    """Sections of the contract that this job reads, besides the dataset."""
    students: tuple[str, ...]
    """Names in the workspace's contract: a copy of the student for each seed."""
    is_asked_otherwise: bool = False
    """Whether its metrics have SUPERVISE."""

    @property
    def evaluation(self) -> str:
        """Job that lets its students answer the holdout."""
        return f"{self.prefix}/predictions-{self.students[0]}-to-{self.students[-1]}"


class Sets(NamedTuple):
    """A training set of each seed, all of one name."""

    name: str
    make: str
    """`module:function` of the job that writes their examples."""
    digests: tuple[str, ...]
    """Seed -> hash of its training set."""
    is_whole: bool = False
    """Whether every seed learns the same set."""
    is_asked_otherwise: bool = False

    def prefix(self, seed: int) -> str:
        """Return the folder of a seed's artifacts, relative to the run."""
        return prefix(self.name if self.is_whole else f"{self.name} seed {seed}", self.digests[seed])

    def plans(self, students: Sequence[Student]) -> list[Plan]:
        """Return one plan for all `students`, which are in the order of their seeds, or one for each."""
        names = [student.name for student in students]
        if self.is_whole:
            return [Plan(self.prefix(0), self.make, (), tuple(names), self.is_asked_otherwise)]
        return [Plan(self.prefix(seed), self.make, (), (name,), self.is_asked_otherwise) for seed, name in enumerate(names)]


def prefix(name: str, digest: str) -> str:
    """Return the folder of a training set's artifacts, relative to the run."""
    return f"{ABLATION}/{name.replace(' ', '-')}-{digest[:8]}"


def prepared(work: Workspace, name: str, seeds: int, epochs: int | None, profile: str | None) -> Workspace:
    """Return a workspace whose contract has a copy of the student for each seed, and no other student.

    Raises:
        InputError: the contract has no such student, or it learns from more than examples.
    """
    if name not in [student.name for student in work.contract.students]:
        names = ", ".join(student.name for student in work.contract.students)
        raise InputError(f"--student: found {name!r}, expected one of {names}.")
    student = work.contract.student(name)
    if student.objectives.reads_capture or student.objectives.reads_pairs:
        raise InputError(
            f"--student: {name!r} learns from the teacher's distribution or from pairs, which are made for the whole dataset. "
            "Name a student that learns by cross entropy alone (`sft`)."
        )
    length = {"epochs": epochs, "max_steps": None} if epochs else {}
    student = student.model_copy(update={**length, "seeds": 1, "keep_seeds": False})
    suffix = f"-{epochs}e" if epochs else ""
    copies = [student.model_copy(update={"name": f"{name}-{seed}{suffix}", "seed": seed}) for seed in range(seeds)]
    if profile:
        work = replace(work, profile=load_profile(places.profile_path(profile)))
    return replace(work, contract=work.contract.model_copy(update={"students": tuple(copies)}))


def smallest(work: Workspace) -> str:
    """Return the trained student of the run with the fewest parameters.

    Raises:
        MissingArtifact: no student is trained yet.
    """
    sizes = {}
    for student in work.contract.students:
        artifact = load_artifact(work.folder / f"students/{student.name}")
        if artifact:
            sizes[student.name] = _parameters(artifact.record)
    if not sizes:
        raise MissingArtifact(f"{work.folder}: no student is trained yet. Name one with --student, or run the pipeline first.")
    return min(sizes, key=lambda name: sizes[name])


def _parameters(record: ArtifactRecord) -> int:
    return int(record.metrics.get("parameters") or sys.maxsize)


def train(work: Workspace, plans: Sequence[Plan]) -> None:
    """Make the training sets, train and evaluate their students; what is finished is kept."""
    console = Console(sys.stderr)  # stdout is for the result of this command

    def context_for(job: Job) -> JobContext:
        return work.context(job, log=console.log, progress=console.progress)

    waves = list(_waves(work, plans))
    if not any(unfinished(wave, context_for) for wave in waves):
        return
    from jobs.terminal.session import ray_session

    with ray_session(work, console):
        for wave in waves:
            run_pipeline(wave, context_for)
    for student in work.contract.students:
        (work.folder / "ledger" / "checkpoints" / student.name).remove()


def _waves(work: Workspace, plans: Sequence[Plan]) -> Iterator[list[Job]]:
    """Yield the jobs that run at the same time: all training sets; as many trainings as fit; each evaluation alone."""
    yield [Job(f"{plan.prefix}/examples", ("dataset",), plan.reads, plan.make) for plan in plans]
    trainings = [
        _training(plan.prefix, student) for student in work.contract.students for plan in plans if student.name in plan.students
    ]
    at_once = _at_once(work, work.contract.students[0])
    tokens = [tokens_job(f"{plan.prefix}/tokens", examples=f"{plan.prefix}/examples") for plan in plans]
    yield from ([*tokens, *trainings[start : start + at_once]] for start in range(0, len(trainings), at_once))
    for plan in plans:
        needs = ("prompts", *(f"{plan.prefix}/{student}" for student in plan.students))
        needs += (f"{plan.prefix}/examples",) if plan.is_asked_otherwise else ()
        yield [Job(plan.evaluation, needs, ("specialist.task_units",), EXAMINE)]


def _training(folder: str, student: Student) -> Job:
    continued = student.init.champion is not None
    examples, tokens = f"{folder}/examples", f"{folder}/tokens"
    return student_job(f"{folder}/{student.name}", examples=examples, tokens=tokens, continued=continued)


def _at_once(work: Workspace, student: Student) -> int:
    """Return how many trainings may start together: here as many as there are cores; on a cluster all, Ray queues them."""
    cores = max(1.0, work.profile.trainer.cpus * student.workers)
    return max(1, int((os.cpu_count() or 1) / cores)) if work.profile.ray.address == "local" else sys.maxsize


def examine(context: JobContext) -> RowCounts:
    """Let every student of one training set answer the holdout, as the job `reports` does."""
    from engine.evaluation import flow
    from engine.evaluation.predict import predictions
    from jobs.steps import reports

    prompts = context.artifact("prompts")
    holdout = prompts.read("holdout", HOLDOUT).to_pylist()
    sets = [context.artifact(need) for need in context.job.needs if need.endswith("/examples")]
    asked = {"supervise": sets[0].record.metrics[SUPERVISE]} if sets else {}
    units = {unit.name: unit.model_copy(update=asked) for unit in context.contract.specialist.task_units}
    targets = [
        reports.trained(
            context, context.contract, name, role="student", folder=f"{context.artifact(need).folder}/model", units=units
        )
        for need in context.job.needs
        if (name := need.rpartition("/")[2]) not in ("prompts", "examples")
    ]
    results = flow.evaluate(targets, holdout, context.profile, timed=0, progress=context.progress)
    tables = [
        predictions(target, holdout, result, scenarios=reports.scenarios(prompts), final=reports.final)
        for target, result in zip(targets, results, strict=True)
    ]
    context.writer.put("predictions", pa.concat_tables(tables), PREDICTION)
    return RowCounts(len(targets) * len(holdout), {"answers": sum(map(len, tables))})


def exact(work: Workspace, plan: Plan) -> np.ndarray:
    """Return a matrix (students of the plan, prompts in order of their ids) of 1 for an exact answer and 0 for another."""
    return np.array(_predicted(work, plan, "exact"), np.float64)


def exact_by_seed(work: Workspace, sets: Sets) -> np.ndarray:
    """Return a matrix (seeds, prompts in order of their ids) of 1 for an exact answer and 0 for another."""
    return np.concatenate([exact(work, plan) for plan in sets.plans(work.contract.students)])


def answers_by_seed(work: Workspace, sets: Sets) -> list[list[str]]:
    """Return the answers of each seed to the prompts in order of their ids."""
    return [answers for plan in sets.plans(work.contract.students) for answers in _predicted(work, plan, "answer")]


def _predicted(work: Workspace, plan: Plan, column: str) -> list[list[Any]]:
    evaluation = workspace.finished(work.folder, plan.evaluation)
    table = evaluation.read("predictions", PREDICTION, ["model", "prompt_id", column]).sort_by("prompt_id")
    return [table.filter(pc.equal(table["model"], student))[column].to_pylist() for student in plan.students]


def teacher_errors(work: Workspace) -> dict[int, str]:
    """Return the wrong answers of the report's best teacher by the index of their prompts in order of their ids; {} without one."""
    reports = load_artifact(work.folder / "reports")
    if reports is None:
        return {}
    table = reports.read("predictions", PREDICTION, ["model", "role", "prompt_id", "exact", "answer"]).sort_by("prompt_id")
    by_model: dict[str, list[Row]] = {}
    for row in table.filter(pc.equal(table["role"], "teacher")).to_pylist():
        by_model.setdefault(row["model"], []).append(row)
    best = max(by_model.values(), key=lambda rows: sum(row["exact"] for row in rows), default=[])
    return {index: row["answer"] for index, row in enumerate(best) if not row["exact"]}


def scenarios(work: Workspace) -> list[str]:
    """Return the scenario of each holdout prompt, in order of their ids: prompts of one scenario are one cluster."""
    table = workspace.finished(work.folder, "prompts").read("holdout", HOLDOUT, ["prompt_id", "scenario"]).sort_by("prompt_id")
    return [scenario or "" for scenario in table["scenario"].to_pylist()]
