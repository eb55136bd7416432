"""The numbers of a report and the gate's decision on them, from the models' answers to the holdout."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.contract.contract import Contract
from engine.contract.evaluation import Cluster
from engine.evaluation.assess import assess
from engine.evaluation.confirm import closed_rows, digest, part
from engine.evaluation.findings import findings
from engine.evaluation.requirements import GateContext
from engine.evaluation.result import EvalResult, clusters_of
from engine.records.gate import Confirmation
from engine.records.report import Holdout, ModelEntry, Report
from engine.release.gate import decide
from engine.rows import Row
from engine.stats.bootstrap import Array


class Setting(NamedTuple):
    """What a report rests on besides the answers."""

    labels: Sequence[object] | None = None
    """Cluster of each row of the holdout; None = the rows' scenarios."""
    champion: str | None = None
    """Name of the result that is the champion; None = there is none."""
    look: Callable[[str, str], int] = lambda student, part: 1
    """Counts that `student` is looked at on the closed part, and returns how often that part was looked at so far."""


class Verdict(NamedTuple):
    """The report, and the answers that may be shown."""

    report: Report
    predictions: list[pa.Table]
    results: list[EvalResult]
    """Of the part of the holdout on which the report rests."""


def cluster_labels(rows: Sequence[Row], column: Cluster) -> list[object]:
    """Return the cluster of each HOLDOUT row; a row without one has its own."""
    name = {"parent": "parent_id", "none": "prompt_id"}.get(column, column)
    return [row[name] or row["prompt_id"] for row in rows]


def verdict(contract: Contract, results: list[EvalResult], setting: Setting, *, run: str, notes: Iterable[str]) -> Verdict:
    """Return the report on `results`, without the parts that other jobs contribute (judge, curation, ablation).

    With `gate.confirm` its numbers are those of the open part; the closed part is opened for the chosen student, and for the
    models that it is compared with. The answers of the others to it are in no table.
    """
    labels = setting.labels or [row["scenario"] or row["prompt_id"] for row in results[0].predictions.to_pylist()]
    closed = np.zeros(len(labels), dtype=bool) if contract.gate.confirm is None else closed_rows(labels, contract.gate.confirm)
    opened = part(results, ~closed)
    models = _assess(contract, opened, labels, ~closed, setting.champion)
    gate, shown = decide(models, contract.gate), set[str]()
    if closed.any() and gate.winner:
        compared = [each for each in results if each.name == gate.winner or _is_reference(each, contract, gate.winner, setting)]
        shown = {each.name for each in compared}
        confirmation = _confirm(contract, part(compared, closed), (labels, closed), gate.winner, setting)
        gate = decide(models, contract.gate, confirmation=confirmation)
    rows = opened[0].predictions
    seen, clusters = sum(rows["seen"].to_pylist()), clusters_of(rows, _at(labels, ~closed))
    holdout = Holdout(rows=rows.num_rows, seen=seen, unseen=rows.num_rows - seen, clusters=clusters.count, closed=int(closed.sum()))
    report = Report(
        run=run,
        contract=contract.name,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        holdout=holdout,
        models=models,
        gate=gate,
        findings=findings(models, holdout=holdout, gate=gate, notes=[*notes], level=contract.evaluation.level),
    )
    tables = [(whole if whole.name in shown else half).predictions for whole, half in zip(results, opened, strict=True)]
    return Verdict(report, tables, opened)


def _is_reference(result: EvalResult, contract: Contract, student: str, setting: Setting) -> bool:
    """Return whether `student` is compared with this model."""
    twin = contract.gate.hurt_by.twins.get(student) if contract.gate.hurt_by else None
    return result.target.role in ("teacher", "baseline", "champion") or result.name in (twin, setting.champion)


def _assess(
    contract: Contract, results: list[EvalResult], labels: Sequence[object], rows: Array, champion: str | None
) -> tuple[ModelEntry, ...]:
    context = GateContext(contract.gate, champion, _at(labels, rows))
    return assess(results, contract.evaluation, contract.specialist, contract.budget.price, context)


def _confirm(
    contract: Contract, results: list[EvalResult], split: tuple[Sequence[object], Array], student: str, setting: Setting
) -> Confirmation:
    labels, closed = split
    models = _assess(contract, results, labels, closed, setting.champion)
    decision = decide([model for model in models if model.name == student], contract.gate)
    rows = results[0].predictions
    return Confirmation(
        student=student,
        rows=rows.num_rows,
        clusters=clusters_of(rows, _at(labels, closed)).count,
        looks=setting.look(student, digest(rows["prompt_id"].to_pylist())),
        numbers=decision.numbers[student],
        word=decision.words[student],
    )


def _at(labels: Sequence[object], mask: Array) -> list[object]:
    return [label for label, is_kept in zip(labels, mask, strict=True) if is_kept]
