"""The views of `rayleigh sql` over runs and registry that are no tables of an artifact: runs, models, costs, labels, events, ..."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar, get_args

import pyarrow as pa

from engine.inference.spending import costs
from engine.records.base import Record
from engine.records.overview import CostRow, EventRow, LabelRow, LearntRow, ModelRow, RunRow, WithdrawalRow
from engine.records.report import ModelEntry, Report
from engine.release import learnt
from engine.release.registry import RELEASE, Registry
from engine.release.withdrawals import FOLDER, Withdrawals
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder
from jobs import workspace
from jobs.steps import labels

ROWS: dict[str, type[Record]] = {
    "runs": RunRow, "models": ModelRow, "costs": CostRow, "labels": LabelRow, "events": EventRow, "withdrawals": WithdrawalRow,
    "learnt": LearntRow,
}  # fmt: skip
"""View -> the model of its rows."""
R = TypeVar("R", bound=Record)
KINDS = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


class RunSource(NamedTuple):
    """One run that is looked at."""

    name: str
    folder: Folder
    artifacts: Mapping[str, Artifact]


def schema_of(view: str) -> pa.Schema:
    """Return the columns of a view."""
    fields = []
    for name, field in ROWS[view].model_fields.items():
        kinds = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind in KINDS]
        fields.append(pa.field(name, KINDS[kinds[0]]))
    return pa.schema(fields)


def overview(runs: Sequence[RunSource], registry: Folder | None) -> dict[str, pa.Table]:
    """Return view -> its rows; a view without any has its columns.

    Raises:
        StorageError: a record of a run, or an event of the registry, cannot be read.
    """
    found: dict[str, list[Record]] = {view: [] for view in ROWS}
    for run in runs:
        for view, rows in (("runs", [_run(run)]), ("models", _models(run)), ("costs", _costs(run)), ("labels", _labels(run))):
            found[view] += rows
    if registry is not None and registry.exists():
        found["withdrawals"] += [_as(WithdrawalRow, event) for event in Withdrawals(registry).events()]
        for contract in _contracts(registry):
            shelf = Registry(registry, contract)
            champion = shelf.champion
            found["events"] += [
                _as(EventRow, event, is_champion=champion is not None and event.id == champion.id) for event in shelf.history()
            ]
            found["learnt"] += _learnt(shelf)
    return {view: pa.Table.from_pylist([row.model_dump() for row in rows], schema=schema_of(view)) for view, rows in found.items()}


def _run(run: RunSource) -> RunRow:
    work, report = workspace.reopen(run.folder.url), _report(run)
    records = [artifact.record for artifact in run.artifacts.values()]
    last = max(records, key=lambda record: record.started + record.seconds)
    gate = report and report.gate
    return RunRow(
        run=run.name,
        folder=run.folder.url,
        contract=work.contract.name,
        created=workspace.read_run(run.folder).created,
        profile=work.profile.name,
        jobs_finished=len(records),
        seconds=round(sum(record.seconds for record in records), 3),
        gate_by=gate and gate.by,
        winner=gate and gate.winner,
        undecided=None if gate is None else len(gate.undecided),
        holdout_rows=report and report.holdout.rows,
        commit=last.commit,
    )


def _report(run: RunSource) -> Report | None:
    return workspace.read_model(run.folder, "reports/report.json", Report) if "reports" in run.artifacts else None


def _models(run: RunSource) -> Iterator[ModelRow]:
    if report := _report(run):
        for model in report.models:
            yield _model(run.name, model, report)


def _model(run: str, model: ModelEntry, report: Report) -> ModelRow:
    exact, against = model.metrics.exact_match, model.against_teacher
    retention = against and against.retention
    student = model.role == "student"
    return ModelRow(
        run=run, model=model.name, role=model.role, parameters=model.parameters, weight_bytes=model.weight_bytes,
        exact_match=exact and exact.value, exact_low=exact and exact.low, exact_high=exact and exact.high,
        exact_unseen=model.metrics.exact_match_unseen and model.metrics.exact_match_unseen.value,
        retention=retention and retention.value, retention_low=retention and retention.low,
        retention_high=retention and retention.high, ece=model.metrics.ece and model.metrics.ece.value,
        p50_ms=model.latency and model.latency.p50_ms, p95_ms=model.latency and model.latency.p95_ms,
        per_1000_accepted=model.cost and model.cost.per_1000_accepted,
        word=report.gate.words.get(model.name) if student else None, is_winner=student and report.gate.winner == model.name,
    )  # fmt: skip


def _costs(run: RunSource) -> Iterator[CostRow]:
    if candidates := run.artifacts.get("candidates"):
        dataset = run.artifacts.get("dataset")
        price = workspace.reopen(run.folder.url).contract.budget.price
        for cost in costs(candidates.record.metrics, dataset.record.metrics if dataset else {}, price):
            yield _as(CostRow, cost, run=run.name, currency=price.currency)


def _labels(run: RunSource) -> Iterator[LabelRow]:
    for label in labels.read(run.folder).values():
        yield LabelRow(run=run.name, **label)


def _contracts(registry: Folder) -> list[str]:
    names = {name.split("/")[0] for name in registry.files() if name.count("/") >= 2}
    return sorted(names - {FOLDER})


def _learnt(shelf: Registry) -> Iterator[LearntRow]:
    """Yield the prompts of each release; releases of an earlier version do not list theirs."""
    champion, students = shelf.champion, {event.fingerprint: event.student for event in shelf.history()}
    for name in (name for name in shelf.folder.files() if name.endswith(f"/{RELEASE}")):
        fingerprint = name.split("/")[1]
        release = shelf.folder / f"releases/{fingerprint}"
        about = {
            "contract": shelf.contract, "student": students.get(fingerprint, "?"), "fingerprint": fingerprint,
            "is_champion": champion is not None and champion.fingerprint == fingerprint,
        }  # fmt: skip
        for row in learnt.read(release).to_pylist() if release.exists(learnt.FILE) else ():
            yield LearntRow(**about, **row)


def _as(kind: type[R], record: Record, **columns: object) -> R:
    """Return the fields of `record` that `kind` has, with `columns`."""
    return kind.model_validate({**record.model_dump(mode="json"), **columns})
