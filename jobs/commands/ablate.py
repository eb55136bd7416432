"""`rayleigh ablate`: measure the worth of judge and checks by training a student on subsets of the answers of equal size.

The subsets are defined in `engine/evaluation/ablate.py`, their trainings in `jobs/commands/ablate_trainings.py`.
`RUN/ablation/ablation.json`, and `--json`, hold an `Ablation`. A report that is made later shows it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.contract import Contract
from engine.curation.represent import examples as represented
from engine.evaluation.ablate import Subset, answer_facts, subsets
from engine.records.ablation import Ablation, SubsetResult, Training
from engine.records.estimate import Estimate
from engine.rows import EXAMPLE
from engine.runs.job import JobContext
from engine.stats.bootstrap import TwoWayBootstrap
from engine.storage.artifact import Artifact, RowCounts
from engine.storage.shards import iterate
from jobs import workspace
from jobs.commands.ablate_trainings import ABLATION, Plan, prefix, prepared, smallest, train
from jobs.commands.ablate_trainings import exact as exact_of
from jobs.terminal.console import columns, interval
from jobs.workspace import Workspace

RESULT = f"{ABLATION}/ablation.json"
MADE_FROM = ("specialist.task_units", "curation.pick", "curation.seed")
FACTS = ["answer_id", "prompt_id", "finish_reason", "checks", "agreement", "score", "confidence", "dropped_by"]
EXCLUDED = ("exact", "minhash", "semantic", "contaminated")
"""Reasons for which curation drops a prompt altogether: no subset may learn what resembles the holdout either."""


def ablate(run: str, *, student: str | None = None, seeds: int, epochs: int | None = None, profile: str | None = None) -> Ablation:
    """Train `student`, by default the smallest one, `seeds` times on each subset of the answers of `run`, and compare them.

    Raises:
        InputError: the contract has no such student.
        MissingArtifact: the run has no dataset yet.
    """
    work = workspace.reopen(run)
    student = student or smallest(work)
    work = prepared(work, student, seeds, epochs, profile)
    dataset = workspace.finished(work.folder, "dataset")
    every = _subsets(dataset, work.contract)
    with workspace.locked(work.folder):
        train(work, [_plan(work, subset) for subset in every if subset.chosen])
        ablation = _ablation(work, student, dataset, every)
        work.folder.write(RESULT, ablation.model_dump_json(indent=1).encode())
    return ablation


def examples(context: JobContext) -> RowCounts:
    """Make the examples of a subset, in the same way as those of the dataset."""
    dataset, contract = context.artifact("dataset"), context.contract
    folder = context.job.name.rpartition("/")[0]
    every = [subset for subset in _subsets(dataset, contract) if subset.chosen]
    [subset] = [subset for subset in every if prefix(subset.name, subset.digest) == folder]
    pieces = []
    for piece in iterate(dataset.folder / "picked", dataset.table("picked")):
        chosen = piece.filter(pc.is_in(piece["answer_id"], pa.array(subset.chosen)))
        kept = chosen.set_column(chosen.column_names.index("dropped_by"), "dropped_by", pa.array([""] * len(chosen)))
        pieces.append(represented(kept, contract.specialist, contract.curation.pick, seed=contract.curation.seed))
    table = pa.concat_tables(pieces)
    context.writer.put("examples", table, EXAMPLE)
    learnt = len(set(table["prompt_id"].to_pylist()))
    return RowCounts(len(subset.chosen), {"learnt": learnt})


def _subsets(dataset: Artifact, contract: Contract) -> list[Subset]:
    rows = [row for piece in iterate(dataset.folder / "picked", dataset.table("picked"), FACTS) for row in piece.to_pylist()]
    dropped = {row["prompt_id"] for row in rows if row["dropped_by"] in EXCLUDED}
    complete = [row for row in rows if row["finish_reason"] == "stop" and row["prompt_id"] not in dropped]
    return subsets((answer_facts(row, contract.judges) for row in complete), contract.judges)


def _plan(work: Workspace, subset: Subset) -> Plan:
    students = tuple(student.name for student in work.contract.students)
    return Plan(prefix(subset.name, subset.digest), "jobs.commands.ablate:examples", MADE_FROM, students)


def _ablation(work: Workspace, student: str, dataset: Artifact, every: Sequence[Subset]) -> Ablation:
    exact = {subset.name: exact_of(work, _plan(work, subset)) for subset in every if subset.chosen}
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
    """Return the result of `subset`; `exact` holds the matrix of its trainings by the name of the subset."""
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
