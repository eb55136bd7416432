"""How far a run is, read from its records.

`rayleigh status RUN --json` prints

    run         the folder or URL
    contract    the contract's name
    created     when `rayleigh run` first opened the folder, ISO 8601, UTC
    jobs        one object a job of the line, in order:
        name        such as `candidates` or `students/s`
        state       finished | unfinished (begun, no record has landed) | missing
        seconds     wall time; null unless finished
        rows_in     rows that the job read; null unless finished
        rows_out    label (pool, split or drop reason) -> rows; {} unless finished
        conserved   whether rows_in is the sum of rows_out; null unless finished
    spending    what the teachers cost; money is in `currency` of the contract's `budget.price`
        currency
        cap         `budget.teacher_tokens`; null = none
        paid        tokens that teachers were paid for in this folder so far, in and out, whatever became of the answers
        in_rows     those that stand in the rows of `candidates`; null unless finished. The rest was paid twice (what was in flight
                    when something died), or for another recipe; less was paid where a ledger that runs share held answers
        teachers    one object a teacher: teacher, answers, tokens_in, tokens_out, money, accepted (pool train or refusal), picked
                    (became an example), unpaid (not asked for, as the budget was spent), tokens_per_accepted, money_per_accepted
        judge       cap (`budget.judge_tokens`) and paid: tokens that the judge was given to read, and the marks
    judge       name, decides (whether its confidence did), why (not); null without one, or until candidates is finished
"""

import json
from typing import Any

from engine.contract import Contract
from engine.inference.spending import costs
from engine.inference.token_budget import JUDGE_TOKENS, TEACHER_TOKENS, usage_in
from engine.records.judge import JudgeMetrics
from engine.runs.job import Job
from engine.storage.artifact import ArtifactWriter, load_artifact
from engine.storage.shards import Folder
from jobs import workspace
from jobs.pipeline import line
from jobs.terminal.console import columns

GO_ON = "To go on, raise it, delete the folders candidates, dataset, students and reports, and run again."


def status(run: str) -> dict[str, Any]:
    """Return the object that the module describes."""
    work = workspace.reopen(run)
    created = json.loads(work.folder.read(workspace.RUN))["created"]
    jobs = [_state(work.folder, job) for job in line(work.contract)]
    spending = _spending(work.folder, work.contract)
    return {
        "run": str(work.folder),
        "contract": work.contract.name,
        "created": created,
        "jobs": jobs,
        "spending": spending,
        "judge": _judge(work.folder),
    }


def _state(folder: Folder, job: Job) -> dict[str, Any]:
    artifact = load_artifact(folder / job.name)
    if artifact is None:
        begun = ArtifactWriter(folder / job.name).folder.exists()
        nothing = {"seconds": None, "rows_in": None, "rows_out": {}, "conserved": None}
        return {"name": job.name, "state": "unfinished" if begun else "missing", **nothing}
    row_counts = artifact.record["row_counts"]
    return {
        "name": job.name,
        "state": "finished",
        "seconds": artifact.record["seconds"],
        "rows_in": row_counts["rows_in"],
        "rows_out": row_counts["rows_out"],
        "conserved": row_counts["rows_in"] == sum(row_counts["rows_out"].values()),
    }


def _judge(folder: Folder) -> dict[str, Any] | None:
    candidates = load_artifact(folder / "candidates")
    found = candidates.record["metrics"].get("judge") if candidates else None
    return found and JudgeMetrics.model_validate(found).model_dump(mode="json", include={"name", "decides", "why"})


def _spending(folder: Folder, contract: Contract) -> dict[str, Any]:
    candidates, dataset = (load_artifact(folder / name) for name in ("candidates", "dataset"))
    price = contract.budget.price
    teachers = costs(candidates.record["metrics"], dataset.record["metrics"] if dataset else {}, price) if candidates else []
    return {
        "currency": price.currency,
        "cap": contract.budget.teacher_tokens,
        "paid": _paid(folder, TEACHER_TOKENS),
        "in_rows": sum(one["tokens_in"] + one["tokens_out"] for one in teachers) if candidates else None,
        "teachers": teachers,
        "judge": {"cap": contract.budget.judge_tokens, "paid": _paid(folder, JUDGE_TOKENS)},
    }


def _paid(folder: Folder, budget: str) -> int:
    return sum(usage.tokens for usage in usage_in(folder / "ledger" / budget).values())


def as_text(found: dict[str, Any]) -> str:
    """Return the object as tables: one line a job, rows in = rows out by label; and one line a teacher, what it cost."""
    parts = [f"{found['run']}: {found['contract']}, created {found['created']}", funnel(found["jobs"]), bill(found["spending"])]
    parts.append(trust(found["judge"]))
    return "\n\n".join(part for part in parts if part)


def trust(judge: dict[str, Any] | None) -> str:
    """Return why the judge decides nothing; "" if it does, or if there is none."""
    return f"{judge['name']} annotates, it decides nothing: {'; '.join(judge['why'])}." if judge and judge["why"] else ""


def bill(spending: dict[str, Any]) -> str:
    """Return one line a teacher, tokens and money for each accepted answer, and whether the cap ended it; "" if nothing is paid."""
    money = " ".join(["money", spending["currency"]]).strip()
    head = ["teacher", "tokens in", "tokens out", "accepted", "picked", "tokens each", money, f"{money} each"]
    keys = ["teacher", "tokens_in", "tokens_out", "accepted", "picked", "tokens_per_accepted", "money", "money_per_accepted"]
    rows = [[one[key] for key in keys] for one in spending["teachers"]]
    lines = [columns(rows, head=head)] if rows else []
    lines += _spent("teachers", spending["paid"], spending["cap"], "teacher_tokens")
    lines += _spent("judge", spending["judge"]["paid"], spending["judge"]["cap"], "judge_tokens")
    budget_exhausted = sum(one["budget_exhausted"] for one in spending["teachers"])
    if budget_exhausted:
        lines.append(f"The cap stopped the teachers: {budget_exhausted} answers were not asked for. {GO_ON}")
    return "\n".join(lines)


def _spent(whom: str, paid: int, cap: int | None, key: str) -> list[str]:
    if not paid:
        return []
    return [f"{whom}: {paid} tokens paid" + (f" of {cap} that budget.{key} allows" if cap else "")]


def funnel(jobs: list[dict[str, Any]]) -> str:
    """Return one line a job: rows in, rows out by label, whether they agree."""
    rows = [
        [
            job["name"],
            job["state"],
            None if job["seconds"] is None else round(job["seconds"]),
            job["rows_in"],
            " + ".join(f"{count} {label}" for label, count in job["rows_out"].items() if count),
            {True: "all rows accounted for", False: "ROWS LOST", None: ""}[job["conserved"]],
        ]
        for job in jobs
    ]
    return columns(rows, head=["job", "state", "seconds", "rows in", "rows out", ""])
