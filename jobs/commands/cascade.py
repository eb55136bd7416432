"""`rayleigh cascade`: certified thresholds from the predictions of a finished run. No model but an encoder is asked anything."""

import time
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from engine.contract.contract import Contract
from engine.contract.serving import PERSON, Cascade, Stage
from engine.errors import InputError
from engine.records.certificate import CascadeResult, CurvePoint, NicheUse
from engine.records.report import Report
from engine.release.registry import CONTRACT, REPORT
from engine.rows import HOLDOUT, PREDICTION
from engine.serving.certify import Holdout, certified, outside_of
from engine.serving.curve import curve
from engine.serving.deployment import certified_part
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.folder import Folder
from jobs import workspace
from jobs.commands.cascade_niche import niche_of
from jobs.commands.release import job_of
from jobs.steps.curves import graded
from jobs.steps.deployed import manifest
from jobs.steps.verdict import cluster_labels
from jobs.terminal.console import columns, interval

FILE = "cascade.json"
SHOWN = 8  # points of a curve


class Order(NamedTuple):
    """What is asked for; None or () = what the contract says, or its defaults."""

    stages: tuple[str, ...] = ()
    alpha: float | None = None
    delta: float | None = None
    seed: int = 0
    niche: bool | None = None
    """Whether requests are checked for being inside the niche; None = if the contract has `serving.cascade`."""


def cascade(run: str, order: Order) -> CascadeResult:
    """Return the certified cascade of RUN's models, written to RUN/cascade.json.

    Raises:
        MissingArtifact: the run has no reports yet.
        ModelError: the encoder of the niche cannot be loaded.
        InputError: a stage is not among the evaluated models, or a number is out of range.
    """
    work = workspace.reopen(run)
    reports = workspace.finished(work.folder, "reports")
    table = reports.read("predictions", PREDICTION)
    report = workspace.read_model(reports.folder, REPORT, Report)
    section = _section(work.contract, report, order)
    names = [stage.to for stage in section.stages if stage.to != PERSON]
    models = graded(table, names, work.contract.budget.price, report.models)
    if missing := [name for name in names if name not in models]:
        known = sorted(set(table["model"].to_pylist()))
        raise InputError(f"{run}: found stage {missing[0]!r}, expected one of the evaluated models {known}.")
    holdout = holdout_of(table, names[0], work)
    deployments = {name: _deployment(reports, report, name) for name in names}
    niche = None
    if order.niche if order.niche is not None else work.contract.serving and work.contract.serving.cascade:
        niche = niche_of(work, _texts(table, names[0]), holdout, section.niche, seed=order.seed)
    students = {student.name for student in work.contract.students}
    skipped = outside_of(niche.outside, section, names, students) if niche else None
    found = certified(models, holdout, section, deployments, skipped=skipped, seed=order.seed)
    above = work.contract.specialist.niche.answer_above or None
    result = CascadeResult(
        run=work.folder.url,
        contract=work.contract.name,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        stages=tuple(names),
        certificates=found.certificates,
        check=found.check,
        curves=tuple(curve(name, names[-1], models, answer_above=above) for name in names[:-1]),
        currency=work.contract.budget.price.currency,
        niche=niche.use if niche else None,
    )
    work.folder.write(FILE, result.model_dump_json(indent=1).encode())
    return result


def holdout_of(table: pa.Table, model: str, work: workspace.Workspace) -> Holdout:
    """Return the rows of `model` in the table of predictions: ids, and clusters by `evaluation.cluster`.

    Raises:
        InputError: the run holds other prompts than those of its report.
    """
    column, rows = work.contract.evaluation.cluster, _rows_of(table, model)
    ids = rows["prompt_id"].to_pylist()
    if column == "none" or column in rows.column_names:
        return Holdout(ids, cluster_labels(rows.to_pylist(), column))
    held = workspace.finished(work.folder, "prompts").read("holdout", HOLDOUT).to_pylist()  # parent, source, language
    of = dict(zip((row["prompt_id"] for row in held), cluster_labels(held, column), strict=True))
    if missing := next((each for each in ids if each not in of), None):
        raise InputError(
            f"{work.folder}/reports: found an answer to {missing}, which is not in the run's holdout. "
            f"Delete {work.folder}/reports and run again."
        )
    return Holdout(ids, [of[each] for each in ids])


def as_text(result: CascadeResult) -> str:
    """Return the result for a person."""
    lines = [f"cascade  {' -> '.join(result.stages)}", *_about_niche(result.niche)]
    for name, each in result.certificates.items():
        if each.threshold is None:
            lines.append(f"{name}: no threshold: {each.reason}")
            continue
        lines.append(
            f"{name}: answers from confidence {each.threshold:.3f} on; {each.guarantee} Certified on {each.n} prompts in "
            f"{each.clusters} clusters: {each.wrong} of {each.answered} wrong, upper bound {each.risk_bound:.3f}."
        )
    check = result.check
    lines += [
        f"on the other {check.n} prompts in {check.clusters} clusters:",
        f"  answered by a student  {interval(check.coverage)}",
        f"  wrong among those      {interval(check.risk)}",
        f"  accuracy of the whole  {interval(check.accuracy)}, less {result.stages[-1]} alone {interval(check.against_fallback)}",
        f"  cost per right answer  {interval(check.cost_vs_fallback)} of that of {result.stages[-1]} alone",
    ]
    for each in result.curves:
        step = max(1, len(each.points) // SHOWN)
        points = [(f"{each.student}, then {each.fallback}", point) for point in each.points[::step]]
        points += [(f"{name} alone", point) for name, point in each.alone.items()]
        lines += ["", columns([_cells(who, point) for who, point in points], head=_head(result.currency))]
    return "\n".join([*lines, "", "Points of a curve are measured on all prompts, and no threshold of it is certified by that."])


def _about_niche(use: NicheUse | None) -> list[str]:
    if use is None:
        return ["every request counts as inside the niche (--niche checks it)"]
    reasons = ", ".join(f"{count} by {reason}" for reason, count in use.outside.items()) or "none"
    return [f"outside the niche, of {use.rows} prompts of the holdout: {reasons}"]


def _rows_of(table: pa.Table, model: str) -> pa.Table:
    return table.filter(pc.equal(table["model"], model)).sort_by("prompt_id")


def _texts(table: pa.Table, model: str) -> list[str]:
    return _rows_of(table, model)["text"].to_pylist()


def _head(currency: str) -> list[str]:
    return ["who answers", "threshold", "coverage", "right of those", "accuracy", f"cost of 1,000 right {currency}".rstrip()]


def _cells(who: str, point: CurvePoint) -> list[object]:
    return [who, point.threshold, point.coverage, point.selective_accuracy, point.accuracy, point.cost_per_1000_accepted]


def _section(contract: Contract, report: Report, order: Order) -> Cascade:
    """Return the contract's cascade with what `order` changes; by default one student, then the best teacher."""
    section = (contract.serving and contract.serving.cascade) or Cascade()
    numbers = {name: value for name in ("alpha", "delta") if (value := getattr(order, name)) is not None}
    stages = tuple(Stage(to=name) for name in order.stages) or section.stages or tuple(Stage(to=name) for name in _default(report))
    try:
        section = Cascade.model_validate({**section.model_dump(), **numbers, "stages": [stage.model_dump() for stage in stages]})
    except ValidationError as error:
        raise InputError(f"rayleigh cascade: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    if len([stage for stage in section.stages if stage.to != PERSON]) < 2:
        raise InputError("rayleigh cascade: found one stage, expected a student and a model that answers what it leaves (--stage).")
    return section


def _default(report: Report) -> list[str]:
    """Return the student that the gate chose, or else the most accurate one, and the most accurate teacher."""

    def best(role: str) -> list[str]:
        models = [model for model in report.models if model.role == role and model.metrics.exact_match]
        models.sort(key=lambda model: model.metrics.exact_match.value if model.metrics.exact_match else 0.0)
        return [model.name for model in models[-1:]]

    return ([report.gate.winner] if report.gate.winner else best("student")) + best("teacher")


def _deployment(reports: Artifact, report: Report, name: str) -> str:
    """Return what the certificate of a student is bound to, as a server finds it in the release; "" for a model of no artifact.

    Raises:
        InputError: the run holds another student than the report is about.
    """
    run, job = reports.folder.url.rpartition("/")[0], job_of(name)
    artifact = load_artifact(Folder(run) / job)
    if artifact is None or job not in reports.record.inputs:
        return ""
    if reports.record.inputs[job] != artifact.fingerprint:
        raise InputError(f"{run}: its report was made on another {name} than it holds. Delete {reports.folder} and run again.")
    contract = workspace.read_model(reports.folder, CONTRACT, Contract)
    made = manifest(contract, name, artifact.record.files, reports.record.packages, report)
    return certified_part(made)
