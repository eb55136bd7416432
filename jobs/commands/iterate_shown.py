"""What a finished round shows: its best student against its teacher and against the round before, and what the round cost."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.contract.contract import Contract
from engine.evaluation.decompose import Bootstrap, answer_key
from engine.evaluation.signals import best_student, no_narrower
from engine.records.estimate import Estimate
from engine.records.gate import CHAMPION, GateNumber
from engine.records.report import ModelEntry, Report
from engine.records.rounds import RoundOutcome
from engine.release.registry import REPORT
from engine.rounds.slices import Compared
from engine.rows import HOLDOUT, PREDICTION, Row
from engine.stats.bootstrap import Array
from engine.stats.intervals import proportion
from engine.stats.paired import difference
from engine.storage.folder import Folder
from engine.storage.shards import iterate
from jobs import workspace
from jobs.commands import status, summary
from jobs.steps.verdict import cluster_labels

DIMENSIONS = ("task_unit", "layer", "difficulty", "scenario")
SEEN = ["model", "role", "prompt_id", "answer", "exact", *DIMENSIONS]


class Promoted(NamedTuple):
    """What the gate said, and who became the champion."""

    student: str | None
    """None: the champion stays."""
    refusal: str
    before: str | None
    """Fingerprint of the champion that the gate compared with."""


def compared(run: Folder, contract: Contract) -> tuple[ModelEntry, str | None, Compared] | None:
    """Return the best student of a finished run, its teacher, and both on the holdout; None without an evaluated student."""
    report = workspace.read_model(run / "reports", REPORT, Report)
    student = best_student(report.models)
    if student is None:
        return None
    rows = _answers(run, student)
    teacher = student.against_teacher.teacher if student.against_teacher else None
    taught = {row["prompt_id"]: row for row in _predictions(run, teacher, "teacher")} if teacher else {}
    rows = [row for row in rows if not teacher or row["prompt_id"] in taught]
    pairs = [(row, taught.get(row["prompt_id"])) for row in rows]
    columns = {name: [row[name] or "" for row in rows] for name in DIMENSIONS}
    labels = _clusters(run, contract)
    return student, teacher, Compared(
        columns=columns,
        clusters=[labels[row["prompt_id"]] for row in rows],
        right=np.array([row["exact"] for row in rows], dtype=np.float64),
        taught=np.array([other is None or other["exact"] for _, other in pairs], dtype=np.float64),
        differs=np.array([other is not None and _differ(row, other) for row, other in pairs], dtype=np.float64),
    )  # fmt: skip


def outcome(run: Folder, contract: Contract, number: int, promoted: Promoted, before: Folder | None) -> RoundOutcome:
    """Return what the finished round `number` brought. `before` is the run folder of the round before."""
    report = summary.report(run.url)
    student = best_student(report.models)
    added, copies = _added(run, before, contract.evaluation.level)
    dataset = workspace.finished(run, "dataset")
    gain = _gain(run, before, contract, student) if before and student else None
    spending = status.status(run.url).spending
    named = promoted.student or (student.name if student else "")
    numbers = {each.number: each for each in report.gate.numbers.get(named, ())}
    return RoundOutcome(
        round=number,
        run=str(run),
        prompts=workspace.finished(run, "prompts").table("prompts").rows,
        added=added,
        copies=copies,
        examples=dataset.table("examples").rows,
        student=student.name if student else None,
        exact_match=student.metrics.exact_match if student else None,
        gain=gain,
        champion=promoted.before,
        against_champion=_against(numbers.get(CHAMPION), promoted.before),
        word=report.gate.words.get(named),
        promoted=promoted.student,
        refusal=promoted.refusal,
        paid_tokens=spending.paid,
        judge_tokens=spending.judge.paid,
        cost=_cost(report, spending.paid, spending.in_rows, is_first=before is None),
        currency=spending.currency,
        signals=report.worth.signals if report.worth else (),
        advice=report.worth.advice.word if report.worth else "unknown",
        why=report.worth.advice.why if report.worth else (),
        worth=contract.evaluation.worth,
    )


def _against(number: GateNumber | None, champion: str | None) -> GateNumber | None:
    return number if champion else None


def _cost(report: Report, paid: int, in_rows: int | None, *, is_first: bool) -> float:
    """Return the cost of the round alone: of the teachers' answers the share that was paid now, and labels in the first round."""
    if report.worth is None:
        return 0.0
    cost = report.worth.cost
    share = min(1.0, paid / in_rows) if in_rows else 1.0
    return round(cost.total - cost.teachers * (1 - share) - (0.0 if is_first else cost.labels), 9)


def _added(run: Folder, before: Folder | None, level: float) -> tuple[dict[str, int], Estimate | None]:
    """Return where the round's new prompts come from, and the share of copies among its new valid rows."""
    prompts = workspace.finished(run, "prompts")
    earlier = set[str]()
    if before:
        table = workspace.finished(before, "prompts")
        pieces = iterate(table.folder / "prompts", table.table("prompts"), ["prompt_id"])
        earlier = {prompt for piece in pieces for prompt in piece["prompt_id"].to_pylist()}
    added: dict[str, int] = {}
    for piece in iterate(prompts.folder / "prompts", prompts.table("prompts"), ["prompt_id", "source"]):
        for row in piece.to_pylist():
            if row["prompt_id"] not in earlier:
                kind = _kind(row["source"], run)
                added[kind] = added.get(kind, 0) + 1
    new, copies = sum(added.values()), prompts.table("dropped").rows
    return added, proportion(copies, copies + new, level=level) if before else None


def _kind(source: str, run: Folder) -> str:
    if source.startswith("synthesize/"):
        return source
    return "traffic" if source.startswith(f"{run.url}/traffic/") else "sources"


def _gain(run: Folder, before: Folder, contract: Contract, student: ModelEntry) -> Estimate | None:
    """Return the exact match of `student` less that of the same student in the round before, paired; None if there is none."""
    now = {row["prompt_id"]: row["exact"] for row in _answers(run, student)}
    then = {row["prompt_id"]: row["exact"] for row in _predictions(before, student.name, student.role)}
    both = [prompt for prompt in now if prompt in then]
    if not both:
        return None
    labels, section = _clusters(run, contract), contract.evaluation
    measure = difference(_column(now, both), _column(then, both))
    draws = Bootstrap(section.bootstrap, section.level, section.seed)
    found = draws.estimate(measure, [labels[prompt] for prompt in both])
    return found and no_narrower(found)


def _column(exact: dict[str, bool], prompts: list[str]) -> Array:
    return np.array([exact[prompt] for prompt in prompts], dtype=np.float64)


def _answers(run: Folder, model: ModelEntry) -> list[Row]:
    return _predictions(run, model.name, model.role)


def _predictions(run: Folder, model: str, role: str) -> list[Row]:
    table = workspace.finished(run, "reports").read("predictions", PREDICTION, SEEN)
    return [row for row in table.to_pylist() if (row["model"], row["role"]) == (model, role)]


def _clusters(run: Folder, contract: Contract) -> dict[str, object]:
    rows: list[Row] = _holdout(run).to_pylist()
    labels = cluster_labels(rows, contract.evaluation.cluster)
    return {row["prompt_id"]: label for row, label in zip(rows, labels, strict=True)}


def _holdout(run: Folder) -> pa.Table:
    return workspace.finished(run, "prompts").read("holdout", HOLDOUT)


def _differ(row: Row, other: Row) -> bool:
    return not (row["exact"] and other["exact"]) and answer_key(row["answer"]) != answer_key(other["answer"])
