"""`rayleigh ablate`: measure the worth of judge and checks by training a student on subsets of the answers of equal size.

The subsets are defined in `engine/evaluation/ablate.py`. Each training set, each training and each evaluation is an artifact below
`RUN/ablation`, named by its subset and a hash of its content: a second call, or one with more seeds, runs only what is missing.
`RUN/ablation/ablation.json`, and `--json`, hold an `Ablation`. A report that is made later shows it.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract import Contract, load_profile
from engine.contract.students import Student
from engine.curation.represent import examples as represented
from engine.errors import InputError
from engine.evaluation.ablate import Subset, answer_facts, subsets
from engine.records.ablation import Ablation, SubsetResult, Training
from engine.records.estimate import Estimate
from engine.rows import EXAMPLE, HOLDOUT, PREDICTION
from engine.runs.job import Job, JobContext, run_pipeline, unfinished
from engine.stats.bootstrap import TwoWayBootstrap
from engine.storage.artifact import Artifact, RowCounts
from engine.storage.shards import iterate
from jobs import workspace
from jobs.pipeline import student_job, tokens_job
from jobs.terminal.console import Console, columns, interval
from jobs.workspace import Workspace

ABLATION = "ablation"
RESULT = f"{ABLATION}/ablation.json"
MADE_FROM = ("specialist.task_units", "curation.pick", "curation.seed")
FACTS = ["answer_id", "prompt_id", "finish_reason", "checks", "agreement", "score", "confidence", "dropped_by"]
EXCLUDED = ("exact", "minhash", "semantic", "contaminated")
"""Reasons for which curation drops a prompt altogether: no subset may learn what resembles the holdout either."""


def ablate(run: str, *, student: str, seeds: int, epochs: int | None = None, profile: str | None = None) -> Ablation:
    """Train `student` `seeds` times on each subset of the answers of `run`, and compare them.

    Raises:
        InputError: the contract has no such student.
        MissingArtifact: the run has no dataset yet.
    """
    work = _prepared(workspace.reopen(run), student, seeds, epochs, profile)
    dataset = workspace.finished(work.folder, "dataset")
    every = _subsets(dataset, work.contract)
    with workspace.locked(work.folder):
        _run(work, [subset for subset in every if subset.chosen])
        ablation = _ablation(work, student, dataset, every)
        work.folder.write(RESULT, ablation.model_dump_json(indent=1).encode())
    return ablation


def examples(context: JobContext) -> RowCounts:
    """Make the examples of a subset, in the same way as those of the dataset."""
    dataset, contract = context.artifact("dataset"), context.contract
    prefix = context.job.name.rpartition("/")[0]
    [subset] = [subset for subset in _subsets(dataset, contract) if subset.chosen and _prefix(subset) == prefix]
    pieces = []
    for piece in iterate(dataset.folder / "picked", dataset.table("picked")):
        chosen = piece.filter(pc.is_in(piece["answer_id"], pa.array(subset.chosen)))
        kept = chosen.set_column(chosen.column_names.index("dropped_by"), "dropped_by", pa.array([""] * len(chosen)))
        pieces.append(represented(kept, contract.specialist, contract.curation.pick, seed=contract.curation.seed))
    table = pa.concat_tables(pieces)
    context.writer.put("examples", table, EXAMPLE)
    learnt = len(set(table["prompt_id"].to_pylist()))
    return RowCounts(len(subset.chosen), {"learnt": learnt})


def examine(context: JobContext) -> RowCounts:
    """Let every student of one subset answer the holdout, as the job `reports` does."""
    from engine.evaluation import flow
    from engine.evaluation.predict import predictions
    from jobs.steps import reports

    prompts = context.artifact("prompts")
    holdout = prompts.read("holdout", HOLDOUT).to_pylist()
    units = {unit.name: unit for unit in context.contract.specialist.task_units}
    targets = [
        reports.trained(
            context, student, name=student.name, role="student", folder=f"{context.artifact(need).folder}/model", units=units
        )
        for student, need in zip(context.contract.students, context.job.needs[1:], strict=True)
    ]
    results = flow.evaluate(targets, holdout, context.profile, timed=0, progress=context.progress)
    tables = [
        predictions(target, holdout, result, scenarios=reports.scenarios(prompts), final=reports.final)
        for target, result in zip(targets, results, strict=True)
    ]
    context.writer.put("predictions", pa.concat_tables(tables), PREDICTION)
    return RowCounts(len(targets) * len(holdout), {"answers": sum(map(len, tables))})


def _prepared(work: Workspace, name: str, seeds: int, epochs: int | None, profile: str | None) -> Workspace:
    """Return a workspace whose contract has a copy of the student for each seed, and no other student."""
    if name not in [student.name for student in work.contract.students]:
        names = ", ".join(student.name for student in work.contract.students)
        raise InputError(f"--student: found {name!r}, expected one of {names}.")
    student = work.contract.student(name)
    length = {"epochs": epochs, "max_steps": None} if epochs else {}
    student = student.model_copy(update={**length, "seeds": 1, "keep_seeds": False})
    suffix = f"-{epochs}e" if epochs else ""
    copies = [student.model_copy(update={"name": f"{name}-{seed}{suffix}", "seed": seed}) for seed in range(seeds)]
    if profile:
        work = replace(work, profile=load_profile(workspace.profile_path(profile)))
    return replace(work, contract=work.contract.model_copy(update={"students": tuple(copies)}))


def _subsets(dataset: Artifact, contract: Contract) -> list[Subset]:
    rows = [row for piece in iterate(dataset.folder / "picked", dataset.table("picked"), FACTS) for row in piece.to_pylist()]
    dropped = {row["prompt_id"] for row in rows if row["dropped_by"] in EXCLUDED}
    complete = [row for row in rows if row["finish_reason"] == "stop" and row["prompt_id"] not in dropped]
    return subsets((answer_facts(row, contract.judges) for row in complete), contract.judges)


def _run(work: Workspace, kept: Sequence[Subset]) -> None:
    console = Console(sys.stderr)  # stdout is for the result of this command

    def context_for(job: Job) -> JobContext:
        return work.context(job, log=console.log, progress=console.progress)

    waves = list(_waves(work, kept))
    if not any(unfinished(wave, context_for) for wave in waves):
        return
    from jobs.terminal.session import ray_session

    with ray_session(work, console):
        for wave in waves:
            run_pipeline(wave, context_for)
    for student in work.contract.students:
        (work.folder / "ledger" / "checkpoints" / student.name).remove()


def _waves(work: Workspace, kept: Sequence[Subset]) -> Iterator[list[Job]]:
    """Yield the jobs that run at the same time: all training sets; as many trainings as fit; each evaluation alone."""
    students = work.contract.students
    prefixes = [_prefix(subset) for subset in kept]
    yield [Job(f"{prefix}/examples", ("dataset",), MADE_FROM, "jobs.commands.ablate:examples") for prefix in prefixes]
    trainings = [_training(prefix, student) for student in students for prefix in prefixes]
    at_once = _at_once(work, students[0])
    tokens = [tokens_job(f"{prefix}/tokens", examples=f"{prefix}/examples") for prefix in prefixes]
    yield from ([*tokens, *trainings[start : start + at_once]] for start in range(0, len(trainings), at_once))
    for prefix in prefixes:
        needs = ("prompts", *(f"{prefix}/{student.name}" for student in students))
        yield [Job(_evaluation(prefix, students), needs, ("specialist.task_units",), "jobs.commands.ablate:examine")]


def _training(prefix: str, student: Student) -> Job:
    continued = student.init.champion is not None
    names = {"examples": f"{prefix}/examples", "tokens": f"{prefix}/tokens"}
    return student_job(f"{prefix}/{student.name}", **names, continued=continued)


def _evaluation(prefix: str, students: Sequence[Student]) -> str:
    return f"{prefix}/predictions-{students[0].name}-to-{students[-1].name}"


def _at_once(work: Workspace, student: Student) -> int:
    """Return how many trainings may start together: here as many as there are cores; on a cluster all, Ray queues them."""
    cores = max(1.0, work.profile.trainer.cpus * student.workers)
    return max(1, int((os.cpu_count() or 1) / cores)) if work.profile.ray.address == "local" else sys.maxsize


def _prefix(subset: Subset) -> str:
    """Return the folder of a subset's artifacts, relative to the run."""
    return f"{ABLATION}/{subset.name.replace(' ', '-')}-{subset.digest[:8]}"


def _ablation(work: Workspace, student: str, dataset: Artifact, every: Sequence[Subset]) -> Ablation:
    exact = {subset.name: _exact(work, subset) for subset in every if subset.chosen}
    seeds, prompts = next(iter(exact.values())).shape
    evaluation = work.contract.evaluation
    draws = TwoWayBootstrap(seeds, prompts, times=evaluation.bootstrap, level=evaluation.level, seed=evaluation.seed)
    return Ablation(
        run=str(work.folder),
        student=student,
        seeds=seeds,
        epochs=work.contract.students[0].epochs,
        dataset=dataset.fingerprint,
        examples=next(len(subset.chosen) for subset in every if subset.chosen),
        prompts=prompts,
        level=evaluation.level,
        subsets=[_subset_result(subset, exact, draws) for subset in every],
    )


def _subset_result(subset: Subset, exact: Mapping[str, np.ndarray], draws: TwoWayBootstrap) -> SubsetResult:
    """Return the result of `subset`; `exact` holds the matrix of `_exact` by the name of the subset."""
    result = SubsetResult(
        name=subset.name, what=subset.what, answers=subset.answers, prompts=subset.prompts, left_out=subset.left_out or None
    )
    if subset.name not in exact:
        return result
    mine = exact[subset.name]

    def against(other: str) -> Estimate | None:
        return None if other == subset.name or other not in exact else draws.value(mine, exact[other])

    runs = [Training(seed=seed, exact_match=round(float(row.mean()), 6)) for seed, row in enumerate(mine)]
    estimates = {"exact_match": draws.value(mine), "against_all": against("all"), "against_rules": against("rules")}
    return result.model_copy(update={"runs": runs, **estimates})


def _exact(work: Workspace, subset: Subset) -> np.ndarray:
    """Return a matrix (seeds, prompts) of 1 for an exact answer and 0 for another."""
    students = work.contract.students
    evaluation = workspace.finished(work.folder, _evaluation(_prefix(subset), students))
    table = evaluation.read("predictions", PREDICTION, ["model", "prompt_id", "exact"]).sort_by("prompt_id")
    rows = [table.filter(pc.equal(table["model"], student.name))["exact"].to_pylist() for student in students]
    return np.array(rows, np.float64)


def as_text(ablation: Ablation) -> str:
    """Return a table with a line per subset."""
    head = (
        f"student {ablation.student}, {ablation.seeds} seeds, {ablation.epochs} epochs, {ablation.examples} examples in each subset"
    )
    names = ["subset", "answers", "prompts", "exact match", "minus all", "minus rules", "by seed"]
    rows = [
        [
            subset.name,
            subset.answers,
            subset.prompts,
            *map(interval, (subset.exact_match, subset.against_all, subset.against_rules)),
            subset.left_out or " ".join(f"{training.exact_match:.3f}" for training in subset.runs or ()),
        ]
        for subset in ablation.subsets
    ]
    return f"{head}\n\n{columns(rows, head=names)}"
