"""`rayleigh judge`: calibrate the judge of a contract on labelled items, without a run: its agreement, its biases.

What that costs is paid into the ledger of RUN, so that `rayleigh run` with the same judge and items pays for none of it again.
`rayleigh judge CONTRACT --gold FILE --json` prints a `JudgeReport` (engine/records/judge.py).
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine.calibration import judge_calibration
from engine.contract.contract import Contract
from engine.contract.load import parse_contract
from engine.contract.sections import read_include
from engine.errors import ContractError, InputError
from engine.inference.token_budget import tokens_in
from engine.judges.grader_spec import GraderSpec
from engine.judges.judge import Judge
from engine.readers import formats
from engine.readers.paths import format_of
from engine.records.calibration import EvidenceFit
from engine.records.estimate import Estimate
from engine.records.judge import AuditProbe, JudgeCalibration, JudgeReport
from engine.stats.intervals import proportion
from jobs import workspace
from jobs.pipeline import pipeline
from jobs.steps.judging import grader_spec
from jobs.terminal.console import Console, columns
from jobs.workspace import Workspace

FOLDER = "judge"
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95)
SHOWN = ("kappa", "sensitivity", "specificity", "auc", "ece", "pairs")


def judge(path: str, run: str | None, *, gold: str | None, profile: str, changes: Sequence[str]) -> JudgeReport:
    """Return the calibration of the judge; the ledger is in `runs/NAME` if no run folder is given.

    Raises:
        ContractError: the contract has no rubric, or there are no labelled items.
        InputError: the judge could read none of the items, or only items of one label.
    """
    work = workspace.create(path, run, profile=profile, changes=changes)
    if gold:
        work = replace(work, contract=with_gold(work.contract, Path(gold)))
    with workspace.locked(work.folder):
        spec = _grader_spec(work)
        calibration = judge_calibration.load(Judge(spec)) or _calibrate(work, spec)
    tokens = tokens_in(spec.client.budget)
    return JudgeReport(contract=work.contract.name, name=Judge(spec).name, tokens=tokens, **dict(calibration))


def with_gold(contract: Contract, gold: Path) -> Contract:
    """Return `contract` with the labelled items of the file `gold` in place of its own.

    Raises:
        ContractError: the file cannot be read, or an item is not one.
    """
    raw = contract.model_dump(mode="json")
    raw["judges"]["calibrate"] = {**(raw["judges"]["calibrate"] or {}), "gold": _items(gold)}
    return parse_contract(raw, where=gold)


def _items(path: Path) -> object:
    """Return the rows of a data file, or what an `!include` of another file gives. Raises ContractError."""
    if format_of(path.name) in (None, "json"):
        return read_include(path)
    try:
        rows = [row for row in formats.read(str(path)) if row.reason != "empty"]  # a spreadsheet writes such rows
    except InputError as error:
        raise ContractError(f"--gold {error}") from None
    if bad := next((row for row in rows if row.reason), None):
        raise ContractError(f"--gold {path}: cannot be read: line {bad.line}: {bad.detail}. Correct the line.")
    return [row.fields for row in rows]


def _grader_spec(work: Workspace) -> GraderSpec:
    jobs = {job.name: job for job in pipeline(work.contract)}
    spec = grader_spec(work.context(jobs["candidates"], log=lambda text: None, progress=lambda text: None))
    if not spec.has_judge or not spec.section.calibrate:
        raise ContractError(
            f"judges: mode {work.contract.teachers.mode} asks {len(spec.section.rubrics)} rubrics, and "
            f"{'there are' if spec.section.calibrate else 'there are no'} labelled items; both are needed. "
            "Add `rubrics` or `evidence` and another mode than direct, and `calibrate.gold` or --gold."
        )
    return spec


def _calibrate(work: Workspace, spec: GraderSpec) -> JudgeCalibration:
    from jobs.terminal.session import job_session

    apart = replace(work, folder=work.folder / FOLDER)  # the run's own record of its contract stays as it is
    with job_session(apart, Console(sys.stderr)):
        from engine.grading.flow import calibrate

        spec.client.markers.remove()  # crashes of an earlier attempt mean nothing for this one
        calibration = calibrate(spec)
    assert calibration
    return calibration


def as_text(report: JudgeReport) -> str:
    """Return a short table: each number with its interval, each probe with its limit, and whether the judge may decide."""
    binding, numbers = report.bound_to, report.agreement
    items = binding.gold.items if binding.gold else 0
    references = " with their references" if binding.references else " without references"
    head = f"{report.contract}: {report.name} on {items} labelled items{references}, {report.tokens} tokens paid."
    fitted = f"cross-fitted in {report.folds} folds" if report.folds > 1 else "fitted on the very items, too few for folds"
    estimates: dict[str, Estimate | None] = {name: getattr(numbers, name) for name in SHOWN}
    rows = [[name, *_interval(estimate)] for name, estimate in estimates.items() if estimate]
    rows += [[f"stops {kind}", *_interval(estimate)] for kind, estimate in numbers.errors.items()]
    probes = [[probe.probe, *_interval(probe), probe.limit, probe.why or probe.verdict] for probe in report.audit]
    evidence = evidence_table(report.evidence) if report.evidence else ""
    decision = "It may decide." if report.decides else f"It annotates, it decides nothing: {'; '.join(report.why)}."
    scope = "all but pairs" if report.evidence else "all but auc and pairs"
    parts = [
        head,
        columns(rows, head=["number", "value", "low", "high", "items"]),
        evidence,
        threshold_table(report) if report.evidence else "",
        columns(probes, head=["probe", "value", "low", "high", "items", "limit", ""]) if probes else "",
        f"Right is what reaches a confidence of {numbers.threshold:g}; {scope}: {fitted}.\n{decision}",
    ]
    return "\n\n".join(part for part in parts if part)


def evidence_table(fit: EvidenceFit) -> str:
    """Return one line a kind of evidence, and how the confidence is computed from them."""
    rows = []
    for kind in fit.kinds:
        numbers = [None if each is None else f"{each.value:.3f}" for each in (kind.auc, kind.auc_without)]
        worth = kind.worth and f"{kind.worth.value:.4f} ({kind.worth.low:.4f} to {kind.worth.high:.4f})"
        rows.append(
            [
                kind.name,
                "yes" if kind.used else "no",
                *numbers,
                worth,
                None if kind.tokens is None else f"{kind.tokens:.0f}",
                kind.why,
            ]
        )
    head = ["evidence", "used", "auc alone", "auc without", "worth: log loss, nats", "tokens each", ""]
    whose = f"{fit.own} items that teachers of the contract wrote" if fit.measured_on == "own" else f"{fit.items} items in all"
    left_out = f" {fit.failed_checks} items that fail a check are left out." if fit.failed_checks else ""
    lines = [f"The confidence is computed from {fit.why}.", f"All numbers are of the {whose}.{left_out}"]
    if fit.free and fit.free.auc:
        lines.append(f"Without rubrics and readers: auc {fit.free.auc.value:.3f}.")
    return "\n".join([columns(rows, head=head), *lines])


def threshold_table(report: JudgeReport) -> str:
    """Return what each threshold would accept of the labelled items that stand for a run's answers, and how many are right."""
    assert report.evidence
    own = report.evidence.measured_on == "own"
    counted = [item for item in report.items if item.confidence is not None and (item.own or not own)]
    rows = []
    for threshold in sorted({*THRESHOLDS, report.agreement.threshold}):
        accepted = [item.label == "right" for item in counted if item.confidence is not None and item.confidence >= threshold]
        right = proportion(sum(accepted), len(accepted))
        numbers = _interval(right)[:3] if right else [None] * 3
        rows.append([f"{threshold:g}", f"{len(accepted) / max(1, len(counted)):.3f}", *numbers])
    return columns(rows, head=["accepted from", "coverage", "right of these", "low", "high"])


def _interval(estimate: Estimate | AuditProbe) -> list[str | int | None]:
    if estimate.value is None:
        return [None, None, None, 0]
    return [*(f"{number:.3f}" for number in (estimate.value, estimate.low, estimate.high)), estimate.n]
