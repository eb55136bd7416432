"""`rayleigh plan`: a few prompts are answered for real, and what all of them will take is reckoned from that.

The job `prompts` runs whole, as it asks no teacher; then some prompts, spread evenly over all, are answered and judged below
`RUN/plan`. What that costs is paid into the ledger of RUN, so that `rayleigh run` finds it there and pays only for the others.

`rayleigh plan CONTRACT RUN --json` prints

    run, contract, currency
    pilot       prompts (drawn), of (all), answers, seconds (on the wall), tokens (in and out)
    level       of the intervals
    jobs        one object a job: name; rows, tokens_in, tokens_out, seconds, money, bytes, each {value, low, high}, or null where
                nothing is known; basis, the rule in words
    total       the sums of what is known: tokens_in, tokens_out, seconds, money, bytes
    consumers   one object a consumer of a paid model: kind, name, job, cap (the key of `budget` that limits it), tokens (in and
                out) {value, low, high} or null where nothing is known; basis, the rule in words
    cap         null, or teacher_tokens, paid (so far), prompts: how many the cap suffices for, {value, low, high}
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from engine.errors import ContractError
from engine.inference.token_budget import TEACHER_TOKENS, usage_in
from engine.records.candidates import CandidatesMetrics
from engine.report.labels import MISSING, brief, money
from engine.rows import CANDIDATE, PROMPT
from engine.runs.job import Job, JobContext, is_finished, run_pipeline
from engine.storage.artifact import Artifact, RowCounts, load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import iterate, read_table
from jobs import workspace
from jobs.commands import estimate
from jobs.commands.estimate import Extrapolation, Pilot, Rates, exactly
from jobs.commands.plan_consumers import WrittenPrompts, consumer_tokens
from jobs.pipeline import pipeline
from jobs.terminal.console import Console, columns
from jobs.workspace import Workspace

PLAN = "plan"
READ = ["prompt_id", "teacher", "pool", "finish_reason", "tokens_in", "tokens_out", "seconds", "text", "answer"]


@dataclass
class PilotBench(JobContext):
    """The bench of a pilot: its artifacts lie apart, what it pays for lies in the ledger of the whole run."""

    whole: Folder = field(kw_only=True)
    """The run folder that the pilot is for."""
    rows: int = field(kw_only=True)
    """Prompts to draw."""

    @property
    def ledger(self) -> Folder:
        """Where the whole run keeps what it paid for."""
        return self.whole / "ledger"


def plan(path: str, run: str | None, *, pilot: int, profile: str, changes: Sequence[str]) -> dict[str, Any]:
    """Return the object that the module describes; in `runs/NAME` if no run folder is given.

    Raises:
        ContractError: the budget's cap left a prompt of the pilot unanswered.
        RecipeMismatch: the run folder or its pilot was made by another recipe.
    """
    work = workspace.create(path, run or "", profile=profile, changes=changes)
    if not run:
        work = replace(work, folder=workspace.run_folder(f"runs/{work.contract.name}"))
    with workspace.locked(work.folder):
        drawn = _asked(work, pilot)
    return _reckon(work, drawn)


def _asked(work: Workspace, rows: int) -> Artifact:
    """Return the finished candidates of the pilot."""
    from jobs.terminal.session import job_session

    console = Console(sys.stderr)  # what this command has found alone goes to stdout
    jobs = {job.name: job for job in pipeline(work.contract)}
    pilot = (
        Job("prompts", needs=(), reads=(), run="jobs.commands.plan:draw", inputs="jobs.commands.plan:drawn_from"),
        jobs["candidates"],
    )

    def whole(job: Job) -> JobContext:
        return work.context(job, log=console.log, progress=console.progress)

    def part(job: Job) -> PilotBench:
        folder = work.folder / PLAN / str(rows)
        context = replace(work, folder=folder).context(
            job, log=lambda text: console.log(f"pilot: {text}"), progress=console.progress
        )
        return PilotBench(**vars(context), whole=work.folder, rows=rows)

    for job in jobs.values():
        is_finished(whole(job))  # raises if the folder holds another order's work
    if not (is_finished(whole(jobs["prompts"])) and all(is_finished(part(job)) for job in pilot)):
        with job_session(work, console):
            run_pipeline([jobs["prompts"]], whole)
            run_pipeline(pilot, part)
    return part(jobs["candidates"]).artifact("candidates")


def draw(context: PilotBench) -> RowCounts:
    """Write some of the prompts of the whole run, spread evenly over all."""
    prompts = _prompts(context.whole)
    table = prompts.table("prompts")
    drawn = at(iterate(prompts.folder / "prompts", table), spread(table.rows, context.rows))
    context.writer.put("prompts", drawn, PROMPT)
    return RowCounts(table.rows, {"drawn": drawn.num_rows, "left": table.rows - drawn.num_rows})


def drawn_from(context: PilotBench) -> dict[str, Any]:
    """Return what identifies the drawn prompts."""
    return {"prompts": _prompts(context.whole).fingerprint, "rows": context.rows}


def spread(total: int, count: int) -> list[int]:
    """Return at most `count` positions below `total`, evenly spread, in order."""
    count = min(count, total)
    return [(2 * index + 1) * total // (2 * count) for index in range(count)]


def at(pieces: Any, positions: Sequence[int]) -> pa.Table:
    """Return the rows of `pieces` together at `positions`, which are in order; one piece is in memory at a time."""
    found, start = [PROMPT.empty_table()], 0
    for piece in pieces:
        here = [position - start for position in positions if start <= position < start + piece.num_rows]
        found.append(piece.take(pa.array(here, pa.int64())))
        start += piece.num_rows
    return pa.concat_tables(found)


def _prompts(run: Folder) -> Artifact:
    found = load_artifact(run / "prompts")
    assert found is not None  # the job before this one made it
    return found


def _reckon(work: Workspace, drawn: Artifact) -> dict[str, Any]:
    contract, whole = work.contract, _prompts(work.folder)
    evaluation = contract.evaluation
    pilot = _pilot(work, drawn, stands_for=whole.table("prompts").rows)
    found = Extrapolation(pilot, times=evaluation.bootstrap, level=evaluation.level, seed=evaluation.seed)
    models = len(contract.teachers.models) + len(contract.students) + len(evaluation.baselines)
    jobs = [
        _measured(whole),
        estimate.candidates(found),
        estimate.dataset(found),
        *(estimate.student(student.name, found) for student in contract.students),
        estimate.reports(found, models=models, holdout=whole.table("holdout").rows),
    ]
    tokens = pilot.sums["tokens_in"].sum() + pilot.sums["tokens_out"].sum()
    return {
        "run": str(work.folder),
        "contract": contract.name,
        "currency": contract.budget.price.currency,
        "pilot": {
            "prompts": pilot.drawn,
            "of": pilot.stands_for,
            "answers": int(pilot.sums["answers"].sum()),
            "seconds": pilot.seconds,
            "tokens": int(tokens),
        },
        "level": evaluation.level,
        "jobs": jobs,
        "total": {unit: estimate.together(jobs, unit) for unit in estimate.UNITS if unit != "rows"},
        "consumers": consumer_tokens(contract, found, synthesis=_synthesis_tokens(whole)),
        "cap": _cap(work, found, synthesis=_synthesis_tokens(whole) or 0),
    }


def _pilot(work: Workspace, drawn: Artifact, *, stands_for: int) -> Pilot:
    table = drawn.table("candidates")
    rows = read_table(drawn.folder / "candidates", table, CANDIDATE, READ).to_pylist()
    if any(row["finish_reason"] == "budget_exhausted" for row in rows):
        cap = work.contract.budget.teacher_tokens
        drawn.folder.remove()  # its answers are kept, and another cap is another recipe
        raise ContractError(f"budget.teacher_tokens: {cap} does not suffice for this pilot. Raise it, or lower --pilot.")
    folder = Folder(drawn.folder.url.rpartition("/")[0])
    ids = _prompts(folder).read("prompts", PROMPT, ["prompt_id"])["prompt_id"].to_pylist()
    return Pilot(
        estimate.sums(rows, ids, _rates(work)),
        stands_for=stands_for,
        seconds=drawn.record.seconds,
        bytes=table.bytes,
        tokens=estimate.tokens_by_teacher(rows, ids),
        judge_tokens=drawn.metrics(CandidatesMetrics).judge_tokens,
    )


def _rates(work: Workspace) -> Rates:
    teachers, pool = work.contract.teachers.models, work.profile.teacher
    remote = frozenset(one.name for one in teachers if one.model.type == "endpoint")
    at_once = {one.name: pool.actors * (pool.max_num_seqs if one.name in remote else 1) for one in teachers}
    return Rates(work.contract.budget.price, at_once, remote, frozenset(work.contract.curation.pick.pools))


def _measured(prompts: Artifact) -> dict[str, Any]:
    size = sum(table.bytes for table in prompts.record.tables.values())
    rows = prompts.record.row_counts.rows_in
    basis = "measured: it is finished, and the run goes on from it"
    seconds = prompts.record.seconds
    return estimate.entry("prompts", basis, rows=exactly(rows), seconds=exactly(seconds), bytes=exactly(size))


def _synthesis_tokens(prompts: Artifact) -> int | None:
    """Return the tokens of all written prompts, in and out; None if none were written."""
    written = prompts.metrics(WrittenPrompts).synthesis
    return written and written.tokens_in + written.tokens_out


def _cap(work: Workspace, found: Extrapolation, *, synthesis: int) -> dict[str, Any] | None:
    cap = work.contract.budget.teacher_tokens
    if cap is None:
        return None
    paid = sum(usage.tokens for usage in usage_in(work.folder / "ledger" / TEACHER_TOKENS).values())
    return {"teacher_tokens": cap, "paid": paid, "prompts": found.prompts_within(max(0, cap - synthesis))}


def as_text(found: dict[str, Any], contract: str) -> str:
    """Return the object as a table, one line a job, with the rules below it."""
    pilot, currency = found["pilot"], found["currency"]
    head = (
        f"{found['run']}: {found['contract']}. The pilot: {pilot['prompts']} of {pilot['of']} prompts, {pilot['answers']} answers, "
        f"{brief(pilot['tokens'])} tokens, {pilot['seconds']:.0f} s."
    )
    units = ["rows", "tokens in", "tokens out", "seconds", " ".join(["money", currency]).strip(), "bytes"]
    rows = [[job["name"], *(_cell(job[unit], unit) for unit in estimate.UNITS)] for job in found["jobs"]]
    rows.append(["all", "", *(_cell(found["total"][unit], unit) for unit in estimate.UNITS[1:])])
    rules = [f"{job['name']}: {job['basis']}." for job in found["jobs"]]
    paid = [[one["kind"], one["name"], one["job"], _cell(one["tokens"], "tokens_in"), one["basis"]] for one in found["consumers"]]
    notes = [
        f"In brackets: {100 * found['level']:g} % intervals over the drawn prompts. {MISSING}: a pilot cannot tell.",
        *_capped(found["cap"], pilot["of"]),
        f"The pilot's answers are kept: `rayleigh run {contract} {found['run']}` pays for the others only.",
    ]
    parts = [columns(rows, head=["job", *units]), "\n".join(dict.fromkeys(rules))]
    parts.append(columns(paid, head=["paid model", "name", "job", "tokens", "by which rule"]))
    return "\n\n".join([head, *parts, "\n".join(notes)])


def _capped(cap: dict[str, Any] | None, prompts: int) -> list[str]:
    if cap is None:
        return []
    reach = f"suffice for {_cell(cap['prompts'], 'rows')} of {prompts} prompts"
    return [f"The {cap['teacher_tokens']} tokens of budget.teacher_tokens, of which {cap['paid']} are spent, {reach}."]


def _cell(number: dict[str, Any] | None, unit: str) -> str:
    if number is None:
        return MISSING
    say = money if unit == "money" else brief
    value = say(number["value"])
    return value if number["low"] == number["high"] else f"{value} ({say(number['low'])} to {say(number['high'])})"
