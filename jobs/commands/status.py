"""`rayleigh status`: how far a run is, read from its records. `engine/records/status.py` documents what `--json` prints."""

from collections.abc import Iterator, Sequence

from engine.contract.contract import Contract
from engine.grading.failures import as_lines
from engine.inference.spending import costs
from engine.inference.token_budget import JUDGE_TOKENS, TEACHER_TOKENS, tokens_in
from engine.records.calibration import EvidenceFit
from engine.records.candidates import CandidatesMetrics, FailureReason
from engine.records.judge import JudgeStatus
from engine.records.status import JobStatus, JudgeSpending, Spending, Status, StudentRounds, StudentSeeds
from engine.records.student import StudentMetrics
from engine.rows import POOLS
from engine.runs.job import Job
from engine.storage.artifact import ArtifactWriter, load_artifact
from engine.storage.folder import Folder
from engine.students.on_policy.store import furthest
from jobs import workspace
from jobs.pipeline import pipeline
from jobs.terminal.console import columns
from jobs.workspace import Workspace

SPENDING_COLUMNS = (
    "teacher", "tokens_in", "tokens_out", "accepted", "picked", "tokens_per_accepted", "money", "money_per_accepted",
)  # fmt: skip
CONTINUE = (
    "To continue, raise it, delete the folders candidates, dataset, capture, students, exports and reports, as far as they are "
    "there, and run again."
)


def status(run: str) -> Status:
    """Return how far the run in the folder `run` is.

    Raises:
        MissingArtifact: there is no run in this folder.
        StorageError: a record is damaged.
    """
    work = workspace.reopen(run)
    candidates = load_artifact(work.folder / "candidates")
    metrics = candidates.metrics(CandidatesMetrics) if candidates else None
    return Status(
        run=str(work.folder),
        contract=work.contract.name,
        created=workspace.read_run(work.folder).created,
        jobs=tuple(_job(work.folder, job) for job in pipeline(work.contract) if not _done_without(work, job)),
        spending=_spending(work.folder, work.contract),
        failures=metrics.failures if metrics else (),
        judge=metrics.judge if metrics else None,
        seeds=tuple(_seeds(work.folder, work.contract)),
        rounds=tuple(_rounds(work.folder, work.contract)),
    )


def _done_without(work: Workspace, job: Job) -> bool:
    """Return whether the derived artifact of `job` is not there, and nothing needs it any more, as in a run of an older version."""
    users = [other.name for other in pipeline(work.contract) if job.name in other.derived]
    return bool(users) and not load_artifact(work.folder / job.name) and all(load_artifact(work.folder / name) for name in users)


def _seeds(folder: Folder, contract: Contract) -> Iterator[StudentSeeds]:
    for student in contract.students:
        artifact = load_artifact(folder / f"students/{student.name}") if student.seeds > 1 else None
        if artifact:
            metrics = artifact.metrics(StudentMetrics)
            assert metrics.seed is not None, "a contract with seeds writes it"
            yield StudentSeeds(name=student.name, best=metrics.seed, seeds=metrics.seeds, spread=metrics.spread)


def _rounds(folder: Folder, contract: Contract) -> Iterator[StudentRounds]:
    for student in contract.students:
        if student.on_policy:
            artifact = load_artifact(folder / f"students/{student.name}")
            outcome = artifact.metrics(StudentMetrics).on_policy if artifact else None
            done = outcome.rounds if outcome else tuple(furthest(folder / "ledger", student.name))
            if done:
                yield StudentRounds(name=student.name, rounds=done, of=student.on_policy.rounds, outcome=outcome)


def _job(folder: Folder, job: Job) -> JobStatus:
    artifact = load_artifact(folder / job.name)
    if artifact is None:
        is_begun = ArtifactWriter(folder / job.name).folder.exists()
        return JobStatus(name=job.name, state="unfinished" if is_begun else "missing")
    counts = {name: getattr(artifact.record.row_counts, name) for name in ("rows_in", "rows_out", "conserved")}
    record = artifact.record
    return JobStatus(name=job.name, state="finished", seconds=record.seconds, warnings=record.warnings, **counts)


def _spending(folder: Folder, contract: Contract) -> Spending:
    candidates, dataset = (load_artifact(folder / name) for name in ("candidates", "dataset"))
    price = contract.budget.price
    teachers = costs(candidates.record.metrics, dataset.record.metrics if dataset else {}, price) if candidates else []
    return Spending(
        currency=price.currency,
        cap=contract.budget.teacher_tokens,
        paid=tokens_in(folder / "ledger" / TEACHER_TOKENS),
        in_rows=sum(teacher.tokens_in + teacher.tokens_out for teacher in teachers) if candidates else None,
        teachers=tuple(teachers),
        judge=JudgeSpending(cap=contract.budget.judge_tokens, paid=tokens_in(folder / "ledger" / JUDGE_TOKENS)),
    )


def as_text(status: Status) -> str:
    """Return the status as tables: rows in and out of each job, and what each teacher cost."""
    head = f"{status.run}: {status.contract}, created {status.created}"
    notes = [warning_lines(status.jobs), failure_note(status), spending_table(status.spending), judge_note(status.judge)]
    parts = [head, job_table(status.jobs), *notes, seed_table(status.seeds), round_table(status.rounds)]
    return "\n\n".join(part for part in parts if part)


def failure_note(status: Status) -> str:
    """Return the most frequent reasons of answers that were not accepted, with an example each; "" if all were."""
    answers = sum(sum(job.rows_out.get(pool, 0) for pool in POOLS) for job in status.jobs if job.name == "candidates")
    return failures_text(status.failures, answers)


def failures_text(failures: Sequence[FailureReason], answers: int) -> str:
    """Return `failures` of so many answers as text; "" without any."""
    return "\n".join(["answers that were not accepted, by reason", *as_lines(failures, answers)]) if failures else ""


def judge_note(judge: JudgeStatus | None) -> str:
    """Return what the confidence is computed from, and why the judge decides nothing; "" if there is nothing to say."""
    if judge is None:
        return ""
    lines = [evidence_line(judge.evidence)] if judge.evidence else []
    if judge.why:
        lines.append(f"{judge.name} annotates, it decides nothing: {'; '.join(judge.why)}.")
    return "\n".join(lines)


def evidence_line(fit: EvidenceFit) -> str:
    """Return what the confidence is computed from, and about how many answers rubrics and readers were asked."""
    whom = "" if fit.judged is None else f" of {fit.judged} answers"
    asked = "" if fit.asked is None else f" Rubrics and readers were asked about {fit.asked} of them."
    return f"The confidence{whom} is computed from {fit.why}.{asked}"


def seed_table(students: Sequence[StudentSeeds]) -> str:
    """Return one line a seed, and their mean and standard deviation; an empty string if no student has several."""
    rows: list[list[object]] = []
    for student in students:
        for each in student.seeds:
            shares = [None if value is None else f"{value:.3f}" for value in (each.served, each.unconstrained, each.loss)]
            mark = "best" if each.seed == student.best else ""
            rows.append([student.name, each.seed, *shares, each.best_step, each.steps, each.ended_by, mark])
        spread = [student.spread.get(name) for name in ("served", "unconstrained", "loss")]
        rows.append([student.name, "mean, sd", *(found and f"{found.mean:.3f}, {found.sd:.3f}" for found in spread), *[None] * 4])
    head = ["student", "seed", "served", "without grammar", "loss", "best step", "steps", "ended by", ""]
    return columns(rows, head=head) if rows else ""


def round_table(students: Sequence[StudentRounds]) -> str:
    """Return one line a round of on-policy training, and what became of it; an empty string if no student has one."""
    rows: list[list[object]] = []
    for student in students:
        for each in student.rounds:
            held, signal = each.held_out, None if each.no_signal is None else f"{each.no_signal:.0%}"
            measured = [_number(value) for value in (each.score, held.score, held.entropy, held.repetition)]
            rows.append([student.name, f"{each.round} of {student.of}", *measured, f"{held.length:.1f}", signal, each.learned])
        if outcome := student.outcome:
            held = outcome.final
            last = [None, *(_number(value) for value in (held.score, held.entropy, held.repetition)), f"{held.length:.1f}"]
            rows.append([student.name, f"kept: {outcome.kept}", *last, None, outcome.ended_by])
    head = ["student", "round", "score", "held-out", "entropy", "repeated", "tokens", "no signal", "learned"]
    return columns(rows, head=head) if rows else ""


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def spending_table(spending: Spending) -> str:
    """Return one line a teacher, and whether a cap was reached; an empty string if nothing was paid."""
    money = f"money {spending.currency}".strip()
    head = ["teacher", "tokens in", "tokens out", "accepted", "picked", "tokens each", money, f"{money} each"]
    rows = [[getattr(teacher, name) for name in SPENDING_COLUMNS] for teacher in spending.teachers]
    lines = [columns(rows, head=head)] if rows else []
    lines += _usage("teachers", spending.paid, spending.cap, "teacher_tokens")
    lines += _usage("judge", spending.judge.paid, spending.judge.cap, "judge_tokens")
    if skipped := sum(teacher.budget_exhausted for teacher in spending.teachers):
        lines.append(f"The cap stopped the teachers: {skipped} answers were not asked for. {CONTINUE}")
    return "\n".join(lines)


def _usage(payee: str, paid: int, cap: int | None, key: str) -> list[str]:
    if not paid:
        return []
    return [f"{payee}: {paid} tokens paid" + (f" of {cap} that budget.{key} allows" if cap else "")]


def warning_lines(jobs: tuple[JobStatus, ...]) -> str:
    """Return one line a warning."""
    return "\n".join(f"WARNING: {warning}" for job in jobs for warning in job.warnings)


def job_table(jobs: tuple[JobStatus, ...]) -> str:
    """Return one line a job: rows in, rows out by label, and whether they are equal."""
    rows = [
        [
            job.name,
            job.state,
            None if job.seconds is None else round(job.seconds),
            job.rows_in,
            " + ".join(f"{count} {label}" for label, count in job.rows_out.items() if count),
            {True: "all rows accounted for", False: "ROWS LOST", None: ""}[job.conserved],
        ]
        for job in jobs
    ]
    return columns(rows, head=["job", "state", "seconds", "rows in", "rows out", ""])
