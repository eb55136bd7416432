"""Prompts in, judged candidates out: one streaming plan in which teachers and judges are at work at the same time."""

import time

from ray.data import Dataset

from engine.calibration import drift, judge_calibration
from engine.distributed import stream
from engine.grading import cross_teacher
from engine.grading import flow as judges
from engine.inference import spending
from engine.inference.crash_isolation import MARKERS
from engine.inference.locate import locate
from engine.inference.token_budget import TEACHERS
from engine.judges.grader_spec import GraderSpec
from engine.records.judge import JudgeMetrics, JudgeScores
from engine.rows import CANDIDATE, POOLS
from engine.runs.job import JobContext
from engine.storage.artifact import RowCounts
from engine.storage.shards import Table, iterate
from engine.teachers import flow as teachers
from engine.teachers import skipped
from engine.teachers.route import Routing
from engine.teachers.teacher import TeacherSpec
from jobs.steps.judging import grader_spec, scorer_spec, weights
from jobs.steps.progress import Meter
from jobs.steps.toolset import toolset


def run(context: JobContext) -> RowCounts:
    """Every prompt goes to its teachers, every answer to exactly one pool."""
    prompts = context.artifact("prompts")
    num_prompts = prompts.table("prompts").rows
    desks = _desks(context)
    each = sum(desk.section.sampling.n for desk in desks)
    pool, block = context.profile.cpu, context.profile.teacher.block(num_prompts, answers=each)
    rows = stream.read(prompts, "prompts", pool, rows=block)
    rows = teachers.answer(rows, desks, pool, _routing(context))
    return judge(context, rows, num_prompts * each)


def judge(context: JobContext, answers: Dataset, total: int) -> RowCounts:
    """Send each of `answers` to exactly one pool, as the table `candidates` of the draft; `total` counts the unasked, too."""
    (context.ledger / MARKERS).remove()  # who died in an earlier attempt says nothing about this one
    bar = grader_spec(context)
    rows = judges.grade(answers, bar)
    if gauge := scorer_spec(context):
        rows = judges.measure(rows, gauge, context.profile.cpu)
    meter = Meter(context.job.name, total=total, progress=context.progress)
    target = stream.Target(context.writer.folder / "candidates", CANDIDATE, label="pool")
    written = stream.write(rows, target, context.profile.cpu, progress=meter)

    context.writer.tables["candidates"] = written.table
    judge_metrics = judge_calibration.judge_metrics(bar)
    counts = cross_teacher.count_relations(iterate(target.folder, written.table, cross_teacher.COLUMNS))
    context.writer.metrics = {
        "tokens_out": written.tokens,
        "judge": judge_metrics and _with_drift(context, bar, judge_metrics).model_dump(mode="json"),
        "teachers": _teachers(context, written.table),
        "relations": counts.relations,
        "confidence_tiers": counts.confidence_tiers,
        "merged": counts.merged,
    }
    pools = {pool: written.labels.get(pool, 0) for pool in POOLS}
    pieces = iterate(context.writer.folder / "candidates", written.table, skipped.COLUMNS)
    total += context.writer.metrics["merged"]  # type: ignore[index]  # made of answers that keep their own pools
    return RowCounts(total, {**pools, **skipped.skipped(pieces, context.contract.teachers)})


def _with_drift(context: JobContext, bar: GraderSpec, judge: JudgeMetrics) -> JudgeMetrics:
    """Return `judge` with the drift that the answers of this run show, and save their scores for the next run."""
    if judge.why:
        context.log(f"{context.job.name}: {judge.name} annotates, it decides nothing: {'; '.join(judge.why)}")
    audit = bar.section.audit
    if audit is None:
        return judge
    identity, run = judge.bound_to.judge, context.writer.final.url
    scores = drift.run_scores(iterate(context.writer.folder / "candidates", context.writer.tables["candidates"], drift.COLUMNS))
    probes = drift.drift_probes(scores, audit, drift.latest(bar.ledger, identity, run))
    drift.save(bar.ledger, JudgeScores(judge=identity, run=run, created=time.time(), scores=scores.all))
    return judge.model_copy(update={"audit": (*judge.audit, *probes)})


def _desks(context: JobContext) -> list[TeacherSpec]:
    return [
        TeacherSpec(
            section=section,
            specialist=context.contract.specialist,
            pool=context.profile.teacher,
            folder=weights(context, section.model),
            ledger=context.paid / "answers",
            markers=context.ledger / MARKERS / "answers",
            purse=context.ledger / TEACHERS,
            cap=context.contract.budget.teacher_tokens,
            checks=context.contract.judges.checks,
            toolset=toolset(context),
        )
        for section in context.contract.teachers.models
    ]


def _routing(context: JobContext) -> Routing | None:
    routes = context.contract.teachers.routes
    if routes is None:
        return None
    models = {route.nearest.model for route in routes if route.nearest}
    folders = {model: locate(model, root=context.root, home=context.models) for model in models}
    return Routing(routes, context.profile.embedder, folders)


def _teachers(context: JobContext, candidates: Table) -> dict[str, dict[str, float]]:
    """Teacher -> its account, and how long it kept a machine of ours busy."""
    elsewhere = {one.name for one in context.contract.teachers.models if one.model.type == "endpoint"}
    found = spending.accounts(iterate(context.writer.folder / "candidates", candidates, spending.COLUMNS))
    return {
        name: {**account._asdict(), "machine_seconds": 0.0 if name in elsewhere else account.seconds}
        for name, account in found.items()
    }
