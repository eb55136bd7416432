"""`rayleigh bench recipe`: students of several contracts, trained over seeds on the examples of one run, on mails none has seen.

The contracts share all that makes examples, and differ in `students` and `capture`. Each student is trained with each seed by the
jobs of the pipeline, then answers the mails as it is served, with the answer schema alone, and without any constraint. Mails and
their right answers come from the generator of the contract's seeds; a contract without one has the holdout of the run.

All is kept in the folder (`recipe_jobs.py`): a second call, with more seeds, other contracts, or after a kill, runs only what is
missing. After each contract the numbers so far are written; `--json` prints a `RecipeBench`, the `recipe.json` of the folder.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from engine.contract.profile import load_profile
from engine.errors import InputError
from engine.records.student import StudentMetrics
from engine.runs.job import Job, run_pipeline, unfinished
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.folder import Folder
from jobs import places, workspace
from jobs.bench import recipe_answers, recipe_table
from jobs.bench.recipe_answers import BATCH, TeacherSizes
from jobs.bench.recipe_jobs import STUDENTS, Jobs, Task, by_group, mails, side_by_side
from jobs.bench.recipe_table import WAYS, Answers, Draws, Measured, RecipeBench, TeacherAnswers
from jobs.bench.recipe_variants import Trained, Variant, require_same_examples, students, trained, variants
from jobs.commands.check import verify
from jobs.terminal.console import Console
from jobs.workspace import Workspace

RESULT = "recipe.json"


class Order(NamedTuple):
    """What is compared."""

    contracts: Sequence[str]
    """`[LABEL=]FILE`; the first is what the others are compared with."""
    sets: Sequence[str]
    """`[LABEL:]A.B=VALUE`."""
    students: Sequence[str]
    """Names; none = all of the first contract."""
    seeds: int
    mails: int
    """Made by the generator of the seeds; 0 = the holdout of the run."""


class Compared(NamedTuple):
    """A variant, and its trainings by student and seed."""

    variant: Variant
    trainings: dict[str, list[Trained]]

    @property
    def every(self) -> list[Trained]:
        """All trainings."""
        return [each for trainings in self.trainings.values() for each in trainings]


def bench(run: str, work: str, *, order: Order, profile: str) -> RecipeBench:
    """Train, ask and compare what is ordered, on the examples of the finished run `run`, in the folder `work`.

    Raises:
        ContractError: a contract cannot be used as written.
        InputError: a contract orders other examples than those of the run, or has no such student, or the folder is of an earlier
            version; nothing has begun.
        MissingArtifact: the run has no dataset yet.
    """
    there, ordered = workspace.reopen(run), variants(order.contracts, order.sets)
    dataset = workspace.finished(there.folder, "dataset")
    names, here = students(ordered, order.students), _workspace(there, ordered[0], work, profile)
    for variant in ordered:
        require_same_examples(there, variant)
        verify(variant.contract, root=variant.root, models=there.models, run=there.folder)
    compared = [
        Compared(each, {name: [trained(each, name, seed) for seed in range(order.seeds)] for name in names}) for each in ordered
    ]
    with workspace.locked(here.folder):
        console = Console(sys.stderr)  # stdout is for the result of this command
        jobs = Jobs(here, dataset, mails(ordered[0].contract, here, order.mails), console)
        _require_ways(jobs, compared)
        with _session(jobs, compared, console):
            run_pipeline([jobs.mails.job], jobs.context)
            for number, each in enumerate(compared, 1):
                _train(jobs, each.every)
                _answer(jobs, [jobs.teaching(), *map(jobs.answering, each.every)])  # what takes longest first
                _write(_result(there, jobs, compared[:number]), here, console)
    return _result(there, jobs, compared)


def _write(result: RecipeBench, here: Workspace, console: Console) -> None:
    """Write and show what is known so far."""
    here.folder.write(RESULT, result.model_dump_json(indent=1).encode())
    console.log(recipe_table.as_text(result) + "\n")


def _workspace(run: Workspace, first: Variant, work: str, profile: str) -> Workspace:
    loaded = load_profile(places.profile_path(profile))
    pool = loaded.evaluator.model_copy(update={"batch": max(BATCH, loaded.evaluator.batch)})
    folder = Folder(os.path.abspath(work))
    update = {"evaluator": pool, "ledger": loaded.ledger or f"{folder}/ledger"}  # a capture is paid once for all groups
    loaded = loaded.model_copy(update=update)
    return Workspace(folder, first.contract, run.contract_path, first.root, loaded, run.models)


def _session(jobs: Jobs, compared: Sequence[Compared], console: Console) -> AbstractContextManager[Any]:
    """Return a Ray session if a job has to run."""
    every = [each for one in compared for each in one.every]
    if not any(_waiting(jobs, every)):
        return nullcontext()
    from jobs.terminal.session import ray_session

    return ray_session(jobs.work, console)


def _require_ways(jobs: Jobs, compared: Sequence[Compared]) -> None:
    """Raise InputError if students were asked before, in fewer ways than are compared."""
    for each in (each for one in compared for each in one.every):
        answers = load_artifact(jobs.work.folder / jobs.answering(each).name)
        if answers and (absent := [way for way in WAYS if way not in answers.record.tables]):
            raise InputError(
                f"{answers.folder}: has no answers {' and '.join(absent)}: an earlier version asked for fewer. Remove "
                f"{jobs.work.folder / jobs.mails.answers} and run again: the trainings are kept."
            )


def _waiting(jobs: Jobs, every: Sequence[Trained]) -> Iterator[Job]:
    """Yield what is missing: mails, trainings and answers."""
    yield from unfinished([jobs.mails.job, jobs.teaching()], jobs.context)
    for group in by_group(every).values():
        yield from unfinished(jobs.training(group), jobs.context_in(group))
    yield from unfinished([jobs.answering(each) for each in every], jobs.context)


def _train(jobs: Jobs, every: Sequence[Trained]) -> None:
    """Train what is missing, as many at the same time as there are cores for, the last students of a contract first."""
    tasks: list[Task] = []
    for group in by_group(every).values():
        context = jobs.context_in(group)
        waiting = unfinished(jobs.training(group), context)
        students = [job for job in waiting if job.name.startswith(STUDENTS)]
        run_pipeline([job for job in waiting if job not in students], context)  # tokens and capture, which they share
        tasks += [(job, context) for job in students]
    workers = max(each.student.workers for each in every)
    side_by_side(tasks[::-1], _at_once(jobs.work, workers * jobs.work.profile.trainer.cpus))
    for each in every:
        (jobs.group(each).folder / "ledger" / "checkpoints" / each.student.name).remove()


def _answer(jobs: Jobs, every: Sequence[Job]) -> None:
    """Let the models answer that have not, as many at the same time as there are cores for: nothing is timed."""
    waiting = [(job, jobs.context) for job in unfinished(every, jobs.context)]
    side_by_side(waiting, _at_once(jobs.work, jobs.work.profile.evaluator.cpus))


def _at_once(work: Workspace, cpus: float) -> int:
    """Return how many tasks of so many CPUs run at the same time; a cluster has its own queue."""
    return max(1, int((os.cpu_count() or 1) / max(1.0, cpus))) if work.profile.ray.address == "local" else sys.maxsize


def _result(run: Workspace, jobs: Jobs, compared: Sequence[Compared]) -> RecipeBench:
    folder, section = jobs.work.folder, run.contract.evaluation
    mails = recipe_answers.read(workspace.finished(folder, jobs.answering(compared[0].every[0]).name), WAYS[0])
    seeds, scenarios = len(compared[0].every) // len(compared[0].trainings), [row["scenario"] for row in mails]
    draws, teacher = Draws(seeds, scenarios, section), _teacher(workspace.finished(folder, jobs.teaching().name))
    measured = [_measured(jobs, each.variant.label, name, list_) for each in compared for name, list_ in each.trainings.items()]
    return RecipeBench(
        run=str(run.folder),
        folder=str(folder),
        seeds=seeds,
        mails=len(mails),
        phrasings=len(set(scenarios)),
        seen=sum(row["seen"] for row in mails),
        level=section.level,
        teacher=teacher and recipe_table.teacher(*teacher, draws),
        results=recipe_table.results(measured, teacher and teacher.exact, draws),
    )


def _teacher(answers: Artifact) -> TeacherAnswers | None:
    """Return the best teacher, the first of equals; None if no teacher answers."""
    sizes = answers.metrics(TeacherSizes).parameters
    every = [TeacherAnswers(name, _answers(recipe_answers.read(answers, name)).exact, size) for name, size in sizes.items()]
    return max(every, key=lambda each: float(each.exact.sum()), default=None)


def _measured(jobs: Jobs, label: str, student: str, trainings: Sequence[Trained]) -> Measured:
    folder = jobs.work.folder
    made = [workspace.finished(folder, f"trainings/{each.group}/students/{each.student.name}") for each in trainings]
    answers = [workspace.finished(folder, jobs.answering(each).name) for each in trainings]
    return Measured(
        label,
        student,
        [each.student.name for each in trainings],
        [each.metrics(StudentMetrics) for each in made],
        {way: [_answers(recipe_answers.read(each, way)) for each in answers] for way in WAYS},
    )


def _answers(rows: Sequence[recipe_answers.Row]) -> Answers:
    """Return what a model answered, of PREDICTION rows."""
    exact, valid = ([row[name] for row in rows] for name in ("exact", "valid"))
    return Answers(np.array([float(value or 0) for value in exact]), np.array([np.nan if v is None else float(v) for v in valid]))
