"""Text of `rayleigh report`, `rayleigh promote` and `rayleigh rollback`: funnel, models against the teacher, gate, page."""

from engine.errors import MissingArtifact
from engine.records.gate import POINT, GateDecision
from engine.records.release import Promotion, Rollback
from engine.records.report import Latency, ModelEntry, Report
from engine.release.explain import explain, undecided_lines
from engine.storage.folder import Folder
from jobs import places, workspace
from jobs.commands import worth
from jobs.commands.status import failure_note, job_table, judge_note, spending_table, status, warning_lines
from jobs.terminal.console import columns, interval

PAGE = "reports/index.html"
NUMBERS = "reports/report.json"


def report(run: str) -> Report:
    """Return the run's `report.json`, with the results of `rayleigh ablate` that are newer.

    Raises:
        MissingArtifact: the run has no report yet.
        StorageError: report.json cannot be read.
    """
    folder = workspace.reopen(run).folder
    if not folder.exists("reports/record.json"):
        raise MissingArtifact(f"{folder}: has no report yet. `rayleigh status {run}` shows how far it is; `rayleigh run` goes on.")
    return worth.refreshed(folder, workspace.read_model(folder, NUMBERS, Report))


def text(run: str, numbers: Report) -> str:
    """Return the tables printed at the end of a run."""
    folder, state = places.run_folder(run), status(run)
    gate = "\n".join([*_gate(numbers.gate, folder), f"report   {folder}/{PAGE}"])
    notes = [warning_lines(state.jobs), failure_note(state), spending_table(state.spending), judge_note(state.judge)]
    parts = [job_table(state.jobs), *notes, _models(numbers.models), worth.as_text(folder, numbers), gate]
    return "\n\n".join(part for part in parts if part)


def _models(models: tuple[ModelEntry, ...]) -> str:
    """Return one line per model: size, exact match with its interval, retention, latency."""
    rows = []
    for model in models:
        retention = model.against_teacher and model.against_teacher.retention
        intervals = map(interval, (model.metrics.exact_match, model.metrics.exact_match_unseen, retention))
        size = _size(model.parameters, model.size_vs_teacher)
        rows.append([model.name, model.role, size, *intervals, _p95(model.latency)])
    return columns(rows, head=["model", "role", "parameters", "exact match", "unseen scenarios", "retention", "p95 ms"])


def _p95(latency: Latency | None) -> str | None:
    if latency is None or latency.p95 is None:
        return latency and f"{latency.p95_ms:.0f}"
    return f"{latency.p95.value:.0f} ({latency.p95.low:.0f} to {latency.p95.high:.0f})"


def _gate(gate: GateDecision, folder: Folder) -> list[str]:
    lines = [f"gate     {POINT}"] if gate.by == "point" and gate.words else []
    for name, numbers in gate.refusals.items():
        lines += [f"gate     refuses {name}", *(f"           {explain(number)}" for number in numbers)]
    for name in gate.undecided:
        lines += [f"gate     undecided on {name}", *(f"           {line}" for line in undecided_lines(gate, name))]
    if gate.confirmation:
        lines.append(f"gate     {gate.confirmation.sentence}")
    if gate.passing:
        lines += [f"gate     passed by {', '.join(gate.passing)}", f"release  rayleigh promote {folder}"]
    return lines


def _size(parameters: int | None, share: float | None) -> str:
    if not parameters:
        return "-"
    return f"{parameters / 1e6:.1f} M" + (f" (1/{1 / share:.1f})" if share and share < 1 else "")


def of_release(result: Promotion | Rollback) -> str:
    """Return what `promote` or `rollback` did as text."""
    student, release = f"{result.contract}: {result.student}", f"release  {result.release}"
    if isinstance(result, Rollback):
        return f"{student} is champion again, in place of {result.before}\n{release}"
    if not result.changed:
        return f"{student} was the champion already\n{release}"
    before = f", in place of {result.before}" if result.before else ""
    before += f"\n{POINT}" if result.by == "point" else ""
    before += f"\nthe gate is undecided on it; promoted because: {result.why}" if result.why else ""
    undo = f"rayleigh rollback {result.contract} --registry {result.release.rsplit('/', 3)[0]}"
    return f"{student} is the champion{before}\n{release}\nundo     {undo}"
