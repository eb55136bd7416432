"""`rayleigh ablate`: what judge and checks are worth, by training a student on training sets of one size that differ in them alone.

The subsets, and what is left out: `engine/evaluation/ablate.py`. Each training set, each training and each examination is an
artifact of its own below `RUN/ablation`, named after its subset and its content: a second call, or one with more seeds, does what
is missing. A report that is made afterwards shows it. `RUN/ablation/ablation.json`, and `--json`, hold

    run, student, seeds, epochs
    dataset         fingerprint of the training set whose prompts these are
    examples        of each subset; the share `curation.pick.validation` of them watches the training
    prompts, level  of the holdout; of the intervals
    subsets         one object a subset: name, what, answers and prompts that pass, left_out (why, or null); if it is not left out,
                    exact_match, against_all, against_rules (differences): {value, low, high, n} over seeds and prompts, and
                    runs: [{seed, exact_match}]
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract import Contract, load_profile
from engine.contract.students import Student
from engine.curation.represent import examples as represented
from engine.errors import InputError, MissingArtifact
from engine.evaluation.ablate import Subset, TwoWayBootstrap, judged, subsets
from engine.rows import EXAMPLE, HOLDOUT, PREDICTION
from engine.runs.job import Job, JobContext, is_finished, run_pipeline
from engine.storage.artifact import Artifact, RowCounts, load_artifact
from engine.storage.shards import iterate
from jobs import workspace
from jobs.terminal.console import Console, columns
from jobs.workspace import Workspace

ABLATION = "ablation"
NUMBERS = f"{ABLATION}/ablation.json"
MADE_FROM = ("specialist.task_units", "curation.pick", "curation.seed")
TRAIN = "jobs.steps.students:run"
KNOWN = ["answer_id", "prompt_id", "finish_reason", "checks", "agreement", "score", "confidence", "dropped_by"]
OUT = ("exact", "minhash", "semantic", "contaminated")
"""Why curation drops a prompt for good: what resembles the holdout must not be learnt here either."""


def ablate(run: str, *, student: str, seeds: int, epochs: int | None = None, profile: str | None = None) -> dict[str, Any]:
    """Return the object that the module describes.

    Raises:
        InputError: the contract has no such student.
        MissingArtifact: the run has no dataset yet.
    """
    work = _prepared(workspace.reopen(run), student, seeds, epochs, profile)
    dataset = load_artifact(work.folder / "dataset")
    if dataset is None:
        raise MissingArtifact(f"{work.folder}: has no dataset yet. `rayleigh run` makes it.")
    found = _subsets(dataset, work.contract)
    with workspace.locked(work.folder):
        _run(work, [one for one in found if one.chosen])
        told = _told(work, dataset, found) | {"student": student, "epochs": work.contract.students[0].epochs}
        work.folder.write(NUMBERS, json.dumps(told, indent=1).encode())
    return told


def examples(context: JobContext) -> RowCounts:
    """A subset's answers as examples, made as the dataset's are."""
    dataset, contract = context.artifact("dataset"), context.contract
    [subset] = [one for one in _subsets(dataset, contract) if one.chosen and _place(one) == _folder(context)]
    made = []
    for piece in iterate(dataset.folder / "picked", dataset.table("picked")):
        chosen = piece.filter(pc.is_in(piece["answer_id"], pa.array(subset.chosen)))
        kept = chosen.set_column(chosen.column_names.index("dropped_by"), "dropped_by", pa.array([""] * len(chosen)))
        made.append(represented(kept, contract.specialist, contract.curation.pick, seed=contract.curation.seed))
    table = pa.concat_tables(made)
    context.writer.put("examples", table, EXAMPLE)
    learnt = len(set(table["prompt_id"].to_pylist()))
    return RowCounts(len(subset.chosen), {"learnt": learnt})


def examine(context: JobContext) -> RowCounts:
    """Every student of one subset before the holdout, as the line examines it."""
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
    examined = flow.examine(targets, holdout, context.profile.evaluator, timed=0, progress=context.progress)
    tables = [
        predictions(target, holdout, found, scenarios=reports.scenarios(prompts), final=reports.final)
        for target, found in zip(targets, examined, strict=True)
    ]
    context.writer.put("predictions", pa.concat_tables(tables), PREDICTION)
    return RowCounts(len(targets) * len(holdout), {"answers": sum(map(len, tables))})


def _prepared(work: Workspace, name: str, seeds: int, epochs: int | None, profile: str | None) -> Workspace:
    """The workspace whose contract has the student once a seed, and no other."""
    if name not in [student.name for student in work.contract.students]:
        names = ", ".join(student.name for student in work.contract.students)
        raise InputError(f"--student: found {name!r}, expected one of {names}.")
    student = work.contract.student(name)
    changes: dict[str, Any] = {"epochs": epochs or student.epochs}
    ending = f"-{epochs}e" if epochs else ""
    copies = [student.model_copy(update=changes | {"name": f"{name}-{seed}{ending}", "seed": seed}) for seed in range(seeds)]
    if profile:
        work = replace(work, profile=load_profile(workspace.profile_path(profile)))
    return replace(work, contract=work.contract.model_copy(update={"students": tuple(copies)}))


def _subsets(dataset: Artifact, contract: Contract) -> list[Subset]:
    rows = [row for piece in iterate(dataset.folder / "picked", dataset.table("picked"), KNOWN) for row in piece.to_pylist()]
    out = {row["prompt_id"] for row in rows if row["dropped_by"] in OUT}
    whole = [row for row in rows if row["finish_reason"] == "stop" and row["prompt_id"] not in out]
    return subsets((judged(row, contract.judges) for row in whole), contract.judges)


def _run(work: Workspace, kept: Sequence[Subset]) -> None:
    console = Console(sys.stderr)  # what this command has found alone goes to stdout

    def context_for(job: Job) -> JobContext:
        return work.context(job, log=console.log, progress=console.progress)

    waves = list(_waves(work, kept))
    if all(is_finished(context_for(job)) for wave in waves for job in wave):
        return
    from jobs.terminal.session import ray_session

    with ray_session(work, console):
        for wave in waves:
            run_pipeline(wave, context_for)
    for student in work.contract.students:
        (work.folder / "ledger" / "checkpoints" / student.name).remove()


def _waves(work: Workspace, kept: Sequence[Subset]) -> Iterator[list[Job]]:
    """The jobs that run side by side: training sets, trainings as many as there are cores, examinations one by one."""
    students = work.contract.students
    data = {_place(one): Job(f"{_place(one)}/examples", ("dataset",), MADE_FROM, "jobs.commands.ablate:examples") for one in kept}
    yield list(data.values())
    trainings = [_training(place, student) for student in students for place in data]
    at_once = _at_once(work, students[0])
    yield from (trainings[start : start + at_once] for start in range(0, len(trainings), at_once))
    for place in data:
        needs = ("prompts", *(f"{place}/{student.name}" for student in students))
        yield [Job(_examination(place, students), needs, ("specialist.task_units",), "jobs.commands.ablate:examine")]


def _training(place: str, student: Student) -> Job:
    return Job(f"{place}/{student.name}", (f"{place}/examples",), (f"students.{student.name}",), TRAIN)


def _examination(place: str, students: Sequence[Student]) -> str:
    return f"{place}/predictions-{students[0].name}-to-{students[-1].name}"


def _at_once(work: Workspace, student: Student) -> int:
    """Trainings side by side: on this machine as many as its cores feed; on a cluster Ray lets wait what finds no place."""
    each = max(1.0, work.profile.trainer.cpus * student.workers)
    return max(1, int((os.cpu_count() or 1) / each)) if work.profile.ray.address == "local" else sys.maxsize


def _place(subset: Subset) -> str:
    return f"{ABLATION}/{subset.name.replace(' ', '-')}-{subset.digest[:8]}"


def _folder(context: JobContext) -> str:
    return context.job.name.rpartition("/")[0]


def _told(work: Workspace, dataset: Artifact, found: Sequence[Subset]) -> dict[str, Any]:
    right = {one.name: _right(work, one) for one in found if one.chosen}
    seeds, prompts = next(iter(right.values())).shape
    evaluation = work.contract.evaluation
    draws = TwoWayBootstrap(seeds, prompts, times=evaluation.bootstrap, level=evaluation.level, seed=evaluation.seed)
    entries = []
    for one in found:
        entry: dict[str, Any] = {"name": one.name, "what": one.what, "answers": one.answers, "prompts": one.prompts}
        entry["left_out"] = one.left_out or None
        if one.name in right:
            mine = right[one.name]
            entry["runs"] = [{"seed": seed, "exact_match": round(float(row.mean()), 6)} for seed, row in enumerate(mine)]
            entry["exact_match"] = draws.value(mine)
            for other in ("all", "rules"):
                entry[f"against_{other}"] = draws.value(mine, right[other]) if other in right and other != one.name else None
        entries.append(entry)
    size = next(len(one.chosen) for one in found if one.chosen)
    head = {"run": str(work.folder), "dataset": dataset.fingerprint, "seeds": seeds, "examples": size}
    return head | {"prompts": prompts, "level": evaluation.level, "subsets": entries}


def _right(work: Workspace, subset: Subset) -> np.ndarray:
    """(seeds, prompts) whether the answer was right."""
    students = work.contract.students
    made = load_artifact(work.folder / _examination(_place(subset), students))
    assert made
    table = made.read("predictions", PREDICTION, ["model", "prompt_id", "exact"]).sort_by("prompt_id")
    return np.array([table.filter(pc.equal(table["model"], one.name))["exact"].to_pylist() for one in students], np.float64)


def as_text(found: dict[str, Any]) -> str:
    """Return the object as a table."""
    head = (
        f"student {found['student']}, {found['seeds']} seeds, {found['epochs']} epochs, {found['examples']} examples in each subset"
    )
    names = ["subset", "answers", "prompts", "exact match", "less all", "less rules", "by seed"]
    rows = [
        [
            one["name"],
            one["answers"],
            one["prompts"],
            *(_interval(one.get(name)) for name in ("exact_match", "against_all", "against_rules")),
            one["left_out"] or " ".join(f"{each['exact_match']:.3f}" for each in one["runs"]),
        ]
        for one in found["subsets"]
    ]
    return f"{head}\n\n{columns(rows, head=names)}"


def _interval(found: dict[str, Any] | None) -> str:
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})" if found else "-"
