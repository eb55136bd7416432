"""`rayleigh iterate`: rounds of distillation, each a run with more prompts where the student of the last one is weak.

    ROOT/round-000/            an ordinary run of the contract, ROOT/round-001/ the next, and so on
    ROOT/round-001/round.json      its lineage, and what was chosen and why (RoundPlan); completes the plan
    ROOT/round-001/contract.json   the contract that it runs with
    ROOT/round-001/traffic/        texts of requests that became prompts
    ROOT/round-001/outcome.json    what it brought (RoundOutcome); completes the round
    ROOT/registry/             champions: what a round's gate passes is promoted, and the next round is compared with it
    ROOT/ledger/               paid answers, which all rounds share, unless the profile names a ledger

A killed command goes on where it was: a plan is made once, jobs resume, a promotion that was made is found again.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from engine.contract.contract import Contract
from engine.errors import GateRefused, RecipeMismatch
from engine.records.rounds import RoundOutcome, RoundPlan, Rounds
from engine.rounds import descend
from engine.rounds.stop import why_stop
from engine.runs.job import Job, JobContext, run_pipeline, unfinished
from engine.storage.folder import Folder
from jobs import workspace
from jobs.commands import iterate_plan, release
from jobs.commands.iterate_shown import Promoted, outcome
from jobs.commands.iterate_text import as_text as as_text
from jobs.pipeline import pipeline
from jobs.steps import labels
from jobs.terminal.console import Console
from jobs.terminal.session import job_session
from jobs.workspace import Workspace

NOTHING = "nothing to add: no slice has mendable prompts with an unused row or a method for them, and there is no new request"
PLAN, CONTRACT, OUTCOME = "round.json", "contract.json", "outcome.json"


class Order(NamedTuple):
    """What the command was given."""

    work: Workspace
    """Of the contract; its folder is ROOT, its profile has the shared ledger."""
    rounds: int
    traffic: str | None

    @property
    def registry(self) -> Folder:
        """Folder of champions: next to the run folders of the rounds."""
        return self.work.folder / "registry"

    def folder(self, number: int) -> Folder:
        """Return the run folder of round `number`."""
        return self.work.folder / f"round-{number:03d}"


def iterate(
    path: str, root: str, *, rounds: int, traffic: str | None = None, profile: str = "laptop", changes: Sequence[str] = ()
) -> Rounds:
    """Run rounds of the contract `path` below the folder `root`, `rounds` in all, or fewer if a stop signal ends them.

    `traffic` is a folder of records of `rayleigh serve`.

    Raises:
        RecipeMismatch: the rounds below `root` are of another contract, or the holdout has changed.
        RayleighError: as `rayleigh run`; what is finished is kept.
    """
    work = workspace.create(path, root, profile=profile, changes=changes)
    if not work.profile.ledger:
        work = replace(work, profile=work.profile.model_copy(update={"ledger": f"{work.folder.url}/ledger"}))
    order = Order(work, rounds, traffic)
    console = Console(sys.stderr)  # stdout is for the result of this command
    plans, outcomes = list[RoundPlan](), list[RoundOutcome]()
    with workspace.locked(work.folder):
        _require_same(order)
        ended = ""
        while not ended and len(outcomes) < rounds:
            planned = _planned(order, outcomes, console)
            if planned is None:
                ended = NOTHING
                break
            plans.append(planned)
            outcomes.append(_round(order, len(outcomes), console))
            ended = why_stop(outcomes[-1], work.contract.iterate.heed)
    name = work.contract.name
    return Rounds(
        root=str(work.folder),
        contract=name,
        registry=str(order.registry / name),
        plans=tuple(plans),
        outcomes=tuple(outcomes),
        ended=ended or f"rounds: {rounds} were ordered",
    )


def _require_same(order: Order) -> None:
    """Raise RecipeMismatch if the rounds that are there are of another contract."""
    first, ordered = order.folder(0), descend.identity(order.work.contract)
    if first.exists(PLAN) and _plan(first).ordered != ordered:
        raise RecipeMismatch(
            f"{order.work.folder}: its rounds are of another contract than {order.work.contract_path} as it is now; only the "
            f"sections {' and '.join(descend.APART)} may change. {first}/{CONTRACT} holds that of round 0. Use a new folder, "
            "or the same contract with the same --set."
        )


def _planned(order: Order, outcomes: Sequence[RoundOutcome], console: Console) -> RoundPlan | None:
    """Return the plan of the next round, which is made if it is not there; None if there is nothing to add."""
    number = len(outcomes)
    folder, base = order.folder(number), order.work.contract
    if folder.exists(PLAN):
        return _plan(folder)
    ordered = {"round": number, "ordered": descend.identity(base), "created": datetime.now(UTC).isoformat(timespec="seconds")}
    if number == 0:
        plan, contract = RoundPlan(**ordered, level=base.gate.level if base.gate.by == "prove" else None), base
    else:
        made = iterate_plan.plan(order.work, order.folder(number - 1), folder, traffic=order.traffic, number=number)
        if made is None:
            return None
        plan, contract = made.plan.model_copy(update=ordered), made.contract
        if reviewed := labels.read(order.folder(number - 1)):
            labels.write(folder, reviewed)  # by persons, of answers that this round has, too
        lacking = f", {plan.unfilled} more were wanted and are not to be had" if plan.unfilled else ""
        console.log(f"round {number}: {plan.chosen} new prompts are planned{lacking}")
    folder.write(CONTRACT, contract.model_dump_json(indent=1).encode(), durable=True)
    folder.write(PLAN, plan.model_dump_json(indent=1).encode(), durable=True)
    return plan


def _round(order: Order, number: int, console: Console) -> RoundOutcome:
    """Return what round `number` brought, after running what is not finished of it."""
    folder, before = order.folder(number), order.folder(number - 1) if number else None
    if folder.exists(OUTCOME):
        return workspace.read_model(folder, OUTCOME, RoundOutcome, advice="Delete the file and run again")
    contract = workspace.read_model(folder, CONTRACT, Contract, advice="Delete the folder of the round and run again")
    work = replace(order.work, folder=folder, contract=contract)
    console.log(f"\nround {number} of {order.rounds}")
    _run(work, console)
    if before:
        _require_holdout(before, folder)
    result = outcome(folder, contract, number, _promote(order, folder), before)
    folder.write(OUTCOME, result.model_dump_json(indent=1).encode(), durable=True)
    return result


def _run(work: Workspace, console: Console) -> None:
    """Run the unfinished jobs of a round, as `rayleigh run` does."""
    jobs, started = pipeline(work.contract), time.monotonic()

    def context(job: Job) -> JobContext:
        return work.context(job, log=console.log, progress=console.progress)

    with workspace.locked(work.folder):
        waiting = unfinished(jobs, context)
        if waiting:
            run_pipeline(jobs, context, session=lambda: job_session(work, console, [job.name for job in waiting], at_once=False))
            console.log(f"{len(waiting)} jobs in {time.monotonic() - started:.0f} s")


def _promote(order: Order, folder: Folder) -> Promoted:
    """Make what the round's gate chooses the champion; a promotion of an attempt that was killed is found, not repeated."""
    compared = workspace.finished(folder, "reports").record.metrics.get("champion")
    before = compared and compared["fingerprint"]
    try:
        return Promoted(release.promote(folder.url, order.registry.url).student, "", before)
    except GateRefused as refused:
        return Promoted(None, str(refused).splitlines()[0], before)


def _require_holdout(before: Folder, now: Folder) -> None:
    """Raise RecipeMismatch if two rounds have different holdouts: their numbers could not be compared."""
    found = [workspace.finished(each, "prompts").table("holdout").digest for each in (before, now)]
    if found[0] != found[1]:
        raise RecipeMismatch(
            f"{now}: its holdout is not that of {before}: the file of prompts.holdout has changed. Bring the old file back and "
            f"delete {now}, or begin anew in another folder."
        )


def _plan(folder: Folder) -> RoundPlan:
    return workspace.read_model(folder, PLAN, RoundPlan, advice="Delete the folder of the round and run again")
