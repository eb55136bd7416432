"""Prompts in, judged candidates out: one streaming plan in which teachers and judges are at work at the same time."""

import time
from typing import Any

from ray.data import Dataset

from engine.calibration import drift, judge_calibration
from engine.distributed import stream
from engine.inference import spending
from engine.inference.crash_isolation import MARKS
from engine.inference.locate import locate
from engine.inference.token_budget import TEACHERS
from engine.judges import flow as judges
from engine.judges import together
from engine.judges.grader_spec import Bar
from engine.rows import CANDIDATE, POOLS
from engine.runs.job import Bench
from engine.storage.artifact import Tally
from engine.storage.shards import Table, iterate
from engine.teachers import flow as teachers
from engine.teachers import skipped
from engine.teachers.route import Routing
from engine.teachers.teacher import Desk
from jobs.steps.judging import bar_for, gauge_for, weights
from jobs.steps.progress import Meter
from jobs.steps.toolset import kit


def run(bench: Bench) -> Tally:
    """Every prompt goes to its teachers, every answer to exactly one pool."""
    prompts = bench.artifact("prompts")
    num_prompts = prompts.table("prompts").rows
    desks = _desks(bench)
    each = sum(desk.section.sampling.n for desk in desks)
    pool, block = bench.profile.cpu, bench.profile.teacher.block(num_prompts, answers=each)
    rows = stream.read(prompts, "prompts", pool, rows=block)
    rows = teachers.answer(rows, desks, pool, _routing(bench))
    return judge(bench, rows, num_prompts * each)


def judge(bench: Bench, answers: Dataset, total: int) -> Tally:
    """Send each of `answers` to exactly one pool, as the table `candidates` of the draft; `total` counts the unasked, too."""
    (bench.ledger / MARKS).remove()  # who died in an earlier attempt says nothing about this one
    bar = bar_for(bench)
    rows = judges.grade(answers, bar)
    if gauge := gauge_for(bench):
        rows = judges.measure(rows, gauge, bench.profile.cpu)
    meter = Meter(bench.job.name, total=total, tell=bench.tell)
    target = stream.Target(bench.draft.folder / "candidates", CANDIDATE, label="pool")
    written = stream.write(rows, target, bench.profile.cpu, progress=meter)

    bench.draft.tables["candidates"] = written.table
    known = judge_calibration.about(bar)
    bench.draft.facts = {
        "tokens_out": written.tokens,
        "judge": known and _watched(bench, bar, known),
        "teachers": _teachers(bench, written.table),
        **together.told(iterate(target.folder, written.table, together.COLUMNS)),
    }
    pools = {pool: written.labels.get(pool, 0) for pool in POOLS}
    pieces = iterate(bench.draft.folder / "candidates", written.table, skipped.COLUMNS)
    total += bench.draft.facts["merged"]  # made of answers that keep their own pools
    return Tally(total, {**pools, **skipped.unasked(pieces, bench.contract.teachers)})


def _watched(bench: Bench, bar: Bar, judge: dict[str, Any]) -> dict[str, Any]:
    """What is known of the judge (`instrument.about`), and what the answers of this run add to its audit."""
    if judge["why"]:
        bench.say(f"{bench.job.name}: {judge['name']} annotates, it decides nothing: {'; '.join(judge['why'])}")
    audit = bar.section.audit
    if audit is None:
        return judge
    identity, run = judge["bound_to"]["judge"], bench.draft.final.url
    found = drift.scores(iterate(bench.draft.folder / "candidates", bench.draft.tables["candidates"], drift.COLUMNS))
    verdicts = drift.audit(found, audit, drift.last(bar.ledger, identity, run))
    drift.keep(bar.ledger, identity, run, found, time.time())
    return {**judge, "audit": [*judge["audit"], *verdicts]}


def _desks(bench: Bench) -> list[Desk]:
    return [
        Desk(
            section=section,
            specialist=bench.contract.specialist,
            pool=bench.profile.teacher,
            folder=weights(bench, section.model),
            ledger=bench.paid / "answers",
            marks=bench.ledger / MARKS / "answers",
            purse=bench.ledger / TEACHERS,
            cap=bench.contract.budget.teacher_tokens,
            checks=bench.contract.judges.checks,
            kit=kit(bench),
        )
        for section in bench.contract.teachers.models
    ]


def _routing(bench: Bench) -> Routing | None:
    routes = bench.contract.teachers.routes
    if routes is None:
        return None
    models = {route.nearest.model for route in routes if route.nearest}
    folders = {model: locate(model, root=bench.root, home=bench.models) for model in models}
    return Routing(routes, bench.profile.embedder, folders)


def _teachers(bench: Bench, candidates: Table) -> dict[str, dict[str, float]]:
    """Teacher -> its account, and how long it kept a machine of ours busy."""
    elsewhere = {one.name for one in bench.contract.teachers.models if one.model.type == "endpoint"}
    found = spending.accounts(iterate(bench.draft.folder / "candidates", candidates, spending.COLUMNS))
    return {
        name: {**account._asdict(), "machine_seconds": 0.0 if name in elsewhere else account.seconds}
        for name, account in found.items()
    }
