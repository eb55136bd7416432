"""What the holdout of a run can prove, for `rayleigh plan`: reads the holdout and an earlier report, if there is one."""

import json
from collections.abc import Iterator, Sequence

import numpy as np

from engine.errors import StorageError
from engine.evaluation.confirm import closed_rows
from engine.records.plan import RequirementPower
from engine.records.report import ModelEntry, Report
from engine.release.gate import thresholds
from engine.release.power import Holdout, Known, requirement_power
from engine.release.registry import REPORT, Registry, default_registry
from engine.report.labels import MISSING
from engine.rows import HOLDOUT, Row
from engine.stats.clusters import Clusters
from engine.storage.artifact import Artifact
from jobs import workspace
from jobs.steps.reports import scenarios
from jobs.steps.verdict import cluster_labels
from jobs.terminal.console import columns
from jobs.workspace import Workspace

READ = [
    "prompt_id", "parent_id", "scenario", "task_unit", "source", "language", "layer", "difficulty", "reference",
]  # fmt: skip


def holdout_power(work: Workspace, prompts: Artifact) -> tuple[RequirementPower, ...]:
    """Return what the holdout of `prompts` can prove of each requirement of the contract's gate."""
    contract = work.contract
    rows = prompts.read("holdout", HOLDOUT, READ).to_pylist()
    labels = cluster_labels(rows, contract.evaluation.cluster)
    if share := contract.gate.confirm:  # a student must pass on both parts, so the smaller one limits
        closed = closed_rows(labels, share)
        kept = np.flatnonzero(closed if share <= 0.5 else ~closed)
        rows, labels = [rows[index] for index in kept], [labels[index] for index in kept]
    wanted: dict[str, float] = {}
    for student in contract.students:
        wanted |= thresholds(ModelEntry(name=student.name, role="student"), contract.gate)
    return tuple(requirement_power(contract.gate, wanted, _holdout(rows, labels, scenarios(prompts)), _known(work)))


def _holdout(rows: Sequence[Row], labels: Sequence[object], known: set[str]) -> Holdout:
    every = Clusters(labels)
    unseen = np.array([row["scenario"] not in known for row in rows], dtype=bool)
    nulls = np.array([_nulls(row["reference"]) for row in rows])
    return Holdout(every, every.take(unseen), every.repeat(nulls))


def _nulls(reference: str | None) -> int:
    try:
        form = json.loads(reference or "")
    except ValueError:
        return 0
    return sum(value is None for value in form.values()) if isinstance(form, dict) else 0


def _known(work: Workspace) -> Known:
    """Return what the report of this run or of the champion measured on its best student."""
    for source, report in _reports(work):
        students = [model for model in report.models if model.role == "student" and model.tests]
        best = max(students, key=lambda model: _exact(model) or 0.0, default=None)
        teachers = [value for model in report.models if model.role == "teacher" and (value := _exact(model)) is not None]
        if best:
            return Known(best.tests or {}, max(teachers, default=None), source)
    return Known()


def _exact(model: ModelEntry) -> float | None:
    return model.metrics.exact_match and model.metrics.exact_match.value


def _reports(work: Workspace) -> Iterator[tuple[str, Report]]:
    if work.folder.exists(f"reports/{REPORT}"):
        yield "the report of this run", workspace.read_model(work.folder / "reports", REPORT, Report)
    registry = Registry(default_registry(work.folder), work.contract.name)
    try:
        champion = registry.champion
        if champion:
            yield "the champion's report", Report.model_validate_json(registry.read_file(champion, REPORT))
    except (StorageError, ValueError):  # a registry that cannot be read is no reason to refuse a plan
        return


def power_table(power: Sequence[RequirementPower], *, level: float, aim: float) -> str:
    """Return the table of what the holdout can prove, with the assumptions below it; "" without requirements."""
    if not power:
        return ""
    rows = [
        [
            each.requirement,
            f"{'at most' if each.at_most else 'at least'} {each.wanted:g}",
            f"{each.rows} ({each.clusters} clusters)" if each.rows else MISSING,
            MISSING if each.detectable is None else f"{each.detectable:.3f}",
            MISSING if each.true is None else f"{each.true:.3g}",
            MISSING if each.needed_rows is None else f"{each.needed_rows} ({each.needed} independent)",
            "" if each.true is None else "yes" if each.is_enough else "NO",
        ]
        for each in power
    ]
    head = ["requirement", "wanted", "holdout", "passes from", "to show", "needs prompts", "enough"]
    bases = dict.fromkeys(f"{each.requirement}: {each.basis}." for each in power)
    note = (
        f"What the holdout can prove at a risk of {level:g}: a student whose true value is `passes from` passes in {100 * aim:g} % "
        "of the cases; `needs prompts`: for one whose true value is `to show`, if they cluster as those of this holdout."
    )
    return "\n".join([columns(rows, head=head), note, *bases])
