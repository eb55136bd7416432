"""`rayleigh plan`: answer a few prompts, and extrapolate the size and cost of the whole run from them.

The job `prompts` runs whole, as it asks no teacher; then some prompts, spread evenly over all, are answered and judged below
`RUN/plan`. What that costs is paid into the ledger of RUN, so that `rayleigh run` finds it there and pays only for the others.
`rayleigh plan CONTRACT RUN --json` prints a `PlanReport` (engine/records/plan.py).
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from engine.errors import ContractError
from engine.inference.token_budget import TEACHER_TOKENS, tokens_in
from engine.records.candidates import CandidatesMetrics
from engine.records.plan import CapPlan, JobPlan, PilotSummary, PlanReport, Range
from engine.records.prompts import PromptsMetrics
from engine.report.labels import MISSING, brief, money
from engine.rows import CANDIDATE, PROMPT
from engine.runs.job import Job, JobContext, is_finished, run_pipeline
from engine.storage.artifact import Artifact, RowCounts
from engine.storage.folder import Folder
from engine.storage.shards import iterate, read_table
from jobs import workspace
from jobs.commands import estimate
from jobs.commands.estimate import Extrapolation, Pilot, Rates, exactly
from jobs.commands.plan_power import holdout_power, power_table
from jobs.commands.status import failures_text
from jobs.pipeline import pipeline
from jobs.terminal.console import Console, columns
from jobs.workspace import Workspace

PLAN = "plan"
READ = ["prompt_id", "teacher", "pool", "finish_reason", "tokens_in", "tokens_out", "seconds", "text", "answer"]


@dataclass
class PilotContext(JobContext):
    """The context of a pilot's job: its artifacts lie apart, its paid answers in the ledger of the whole run."""

    whole: Folder = field(kw_only=True)
    """The run folder that the pilot is for."""
    rows: int = field(kw_only=True)
    """Prompts to draw."""

    @property
    def ledger(self) -> Folder:
        """The ledger of the whole run."""
        return self.whole / "ledger"


def plan(path: str, run: str | None, *, pilot: int, profile: str, changes: Sequence[str]) -> PlanReport:
    """Answer `pilot` prompts of the contract in the file `path`, and return the plan; in `runs/NAME` if no run folder is given.

    Raises:
        ContractError: the budget's cap left a prompt of the pilot unanswered.
        RecipeMismatch: the run folder or its pilot was made by another recipe.
    """
    work = workspace.create(path, run, profile=profile, changes=changes)
    with workspace.locked(work.folder):
        drawn = answer_pilot(work, pilot)
    return _report(work, drawn)


def answer_pilot(work: Workspace, rows: int) -> Artifact:
    """Return the finished candidates of a pilot of `rows` prompts; nothing starts if they are there."""
    from jobs.terminal.session import job_session

    console = Console(sys.stderr)  # stdout is for the result of this command
    jobs = {job.name: job for job in pipeline(work.contract)}
    draw_job = Job("prompts", needs=(), reads=(), run="jobs.commands.plan:draw", inputs="jobs.commands.plan:drawn_from")
    pilot = (draw_job, replace(jobs["candidates"], usable=""))  # a plan names the reasons, also if no answer is usable

    def whole(job: Job) -> JobContext:
        return work.context(job, log=console.log, progress=console.progress)

    def part(job: Job) -> PilotContext:
        apart = replace(work, folder=work.folder / PLAN / str(rows))
        context = apart.context(job, log=lambda text: console.log(f"pilot: {text}"), progress=console.progress)
        return PilotContext(**vars(context), whole=work.folder, rows=rows)

    for job in jobs.values():
        is_finished(whole(job))  # raises if the folder holds the work of another recipe
    if not (is_finished(whole(jobs["prompts"])) and all(is_finished(part(job)) for job in pilot)):
        with job_session(work, console, ["candidates"]):
            run_pipeline([jobs["prompts"]], whole)
            run_pipeline(pilot, part)
    return part(jobs["candidates"]).artifact("candidates")


def draw(context: PilotContext) -> RowCounts:
    """Write some of the prompts of the whole run, spread evenly over all."""
    prompts = workspace.finished(context.whole, "prompts")
    table = prompts.table("prompts")
    drawn = at(iterate(prompts.folder / "prompts", table), spread(table.rows, context.rows))
    context.writer.put("prompts", drawn, PROMPT)
    return RowCounts(table.rows, {"drawn": drawn.num_rows, "left": table.rows - drawn.num_rows})


def drawn_from(context: PilotContext) -> dict[str, str | int]:
    """Return what identifies the drawn prompts."""
    return {"prompts": workspace.finished(context.whole, "prompts").fingerprint, "rows": context.rows}


def spread(total: int, count: int) -> list[int]:
    """Return at most `count` positions below `total`, evenly spread, in order."""
    count = min(count, total)
    return [(2 * index + 1) * total // (2 * count) for index in range(count)]


def at(pieces: Iterable[pa.Table], positions: Sequence[int]) -> pa.Table:
    """Return the rows of the concatenated `pieces` at `positions`, which are in order; one piece is in memory at a time."""
    rows, start = [PROMPT.empty_table()], 0
    for piece in pieces:
        here = [position - start for position in positions if start <= position < start + piece.num_rows]
        rows.append(piece.take(pa.array(here, pa.int64())))
        start += piece.num_rows
    return pa.concat_tables(rows)


def _report(work: Workspace, drawn: Artifact) -> PlanReport:
    contract, whole = work.contract, workspace.finished(work.folder, "prompts")
    evaluation = contract.evaluation
    pilot = read_pilot(work, drawn, represents=whole.table("prompts").rows)
    estimates = Extrapolation(pilot, times=evaluation.bootstrap, level=evaluation.level, seed=evaluation.seed)
    jobs = (
        _measured(whole),
        estimate.candidates(estimates),
        estimate.dataset(estimates),
        estimate.tokens(estimates),
        *([estimate.capture(contract.capture, estimates)] if contract.capture else []),
        *(estimate.student(student.name, estimates, validation=contract.curation.pick.validation) for student in contract.students),
        estimate.reports(
            estimates,
            models=sum(teacher.answers for teacher in contract.teachers.models)
            + len(contract.students)
            + len(evaluation.baselines),
            holdout=whole.table("holdout").rows,
        ),
    )
    written = whole.metrics(PromptsMetrics).synthesis
    synthesis = written and written.tokens_in + written.tokens_out
    return PlanReport(
        run=str(work.folder),
        contract=contract.name,
        currency=contract.budget.price.currency,
        pilot=PilotSummary(
            prompts=pilot.drawn,
            of=pilot.represents,
            answers=int(pilot.sums["answers"].sum()),
            seconds=pilot.seconds,
            tokens=int(pilot.sums["tokens_in"].sum() + pilot.sums["tokens_out"].sum()),
            failures=drawn.metrics(CandidatesMetrics).failures,
        ),
        level=evaluation.level,
        jobs=jobs,
        total={unit: estimate.together(jobs, unit) for unit in estimate.UNITS if unit != "rows"},
        consumers=tuple(estimate.consumer_plans(contract, estimates, synthesis=synthesis)),
        cap=_cap(work, estimates, synthesis=synthesis or 0),
        power=holdout_power(work, whole),
        gate_level=contract.gate.level,
        gate_power=contract.gate.power,
    )


def read_pilot(work: Workspace, drawn: Artifact, *, represents: int) -> Pilot:
    """Return the pilot `drawn` of `represents` prompts.

    Raises:
        ContractError: the budget's cap left one of its prompts unanswered.
    """
    table = drawn.table("candidates")
    rows = read_table(drawn.folder / "candidates", table, CANDIDATE, READ).to_pylist()
    if any(row["finish_reason"] == "budget_exhausted" for row in rows):
        cap = work.contract.budget.teacher_tokens
        drawn.folder.remove()  # its answers are kept, and another cap is another recipe
        raise ContractError(f"budget.teacher_tokens: {cap} does not suffice for this pilot. Raise it, or lower --pilot.")
    folder = Folder(drawn.folder.url.rpartition("/")[0])
    ids = workspace.finished(folder, "prompts").read("prompts", PROMPT, ["prompt_id"])["prompt_id"].to_pylist()
    sums, tokens = estimate.sums(rows, ids, _rates(work))
    judge_tokens = drawn.metrics(CandidatesMetrics).judge_tokens
    return Pilot(sums, represents, drawn.record.seconds, table.bytes, tokens, judge_tokens)


def _rates(work: Workspace) -> Rates:
    teachers = work.contract.teachers.models
    remote = frozenset(teacher.name for teacher in teachers if teacher.model.type == "endpoint")
    pools = {teacher.name: work.profile.teacher_of(teacher.name) for teacher in teachers}
    at_once = {name: pool.actors * (pool.max_num_seqs if name in remote else 1) for name, pool in pools.items()}
    shares = {name: 0.0 if name in remote else work.profile.machine_share(pool) for name, pool in pools.items()}
    return Rates(work.contract.budget.price, at_once, shares, frozenset(work.contract.curation.pick.pools))


def _measured(prompts: Artifact) -> JobPlan:
    record = prompts.record
    return JobPlan(
        name="prompts",
        rows=exactly(record.row_counts.rows_in),
        seconds=exactly(record.seconds),
        bytes=exactly(sum(table.bytes for table in record.tables.values())),
        basis="measured: it is finished, and the run goes on from it",
    )


def _cap(work: Workspace, estimates: Extrapolation, *, synthesis: int) -> CapPlan | None:
    cap = work.contract.budget.teacher_tokens
    if cap is None:
        return None
    paid = tokens_in(work.folder / "ledger" / TEACHER_TOKENS)
    return CapPlan(teacher_tokens=cap, paid=paid, prompts=estimates.prompts_within(max(0, cap - synthesis)))


def as_text(report: PlanReport, contract: str) -> str:
    """Return the report as a table, one line a job, with the rules below it; it was made from the file `contract`."""
    pilot, cap = report.pilot, report.cap
    head = (
        f"{report.run}: {report.contract}. The pilot: {pilot.prompts} of {pilot.of} prompts, {pilot.answers} answers, "
        f"{brief(pilot.tokens)} tokens, {pilot.seconds:.0f} s."
    )
    units = ["rows", "tokens in", "tokens out", "seconds", f"money {report.currency}".strip(), "bytes"]
    rows = [[job.name, *(_cell(getattr(job, unit), unit) for unit in estimate.UNITS)] for job in report.jobs]
    rows.append(["all", "", *(_all(report.total[unit], unit) for unit in estimate.UNITS[1:])])
    paid = [[entry.kind, entry.name, entry.job, _cell(entry.tokens, "tokens"), entry.basis] for entry in report.consumers]
    notes = [f"In brackets: {100 * report.level:g} % intervals over the drawn prompts. {MISSING}: a pilot cannot tell."]
    others = [f"{entry.kind} {entry.name}".strip() for entry in report.consumers if entry.kind != "teacher"]
    unpriced = ", ".join([*others, "the machines of trainings and of the evaluation"])
    notes.append(f"Money is that of the teachers' answers, a lower bound (>=). In no sum: {unpriced}.")
    if cap:
        reach = f"suffice for {_cell(cap.prompts, 'rows')} of {pilot.of} prompts"
        notes.append(f"The {cap.teacher_tokens} tokens of budget.teacher_tokens, of which {cap.paid} are spent, {reach}.")
    notes.append(f"The pilot's answers are kept: `rayleigh run {contract} {report.run}` pays for the others only.")
    parts = [
        head,
        failures_text(pilot.failures, pilot.answers),
        columns(rows, head=["job", *units]),
        "\n".join(dict.fromkeys(f"{job.name}: {job.basis}." for job in report.jobs)),
        columns(paid, head=["paid model", "name", "job", "tokens", "by which rule"]),
        power_table(report.power, level=report.gate_level, aim=report.gate_power),
        "\n".join(notes),
    ]
    return "\n\n".join(part for part in parts if part)


def _all(number: Range | None, unit: str) -> str:
    """Return a sum; that of money is a part of what will be paid."""
    text = _cell(number, unit)
    return f">= {text}" if unit == "money" and number is not None else text


def _cell(number: Range | None, unit: str) -> str:
    if number is None:
        return MISSING
    write = money if unit == "money" else brief
    value = write(number.value)
    return value if number.low == number.high else f"{value} ({write(number.low)} to {write(number.high)})"
