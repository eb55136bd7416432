"""Prompts in, graded candidates out: one streaming plan in which teachers and judges work at the same time."""

import time
from collections import Counter
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.calibration import drift, judge_calibration
from engine.contract.teachers import Teacher, Teachers
from engine.distributed import stream
from engine.distributed.rows import Rows
from engine.grading import cross_teacher, failures
from engine.grading import flow as judges
from engine.inference import spending
from engine.inference.crash_isolation import MARKERS
from engine.inference.spending import TeacherTotals
from engine.inference.token_budget import JUDGE_TOKENS, usage_in
from engine.judges.grader_spec import GraderSpec
from engine.records.candidates import CandidatesMetrics, FailureReason, TeacherSpending
from engine.records.judge import JudgeMetrics, JudgeScores
from engine.rows import CANDIDATE, POOLS, Row
from engine.runs.job import JobContext
from engine.storage.artifact import RowCounts
from engine.teachers import flow as teachers
from engine.teachers.labels import LabelsSpec
from engine.teachers.route import Routing
from engine.teachers.skipped import SkippedCounter
from engine.teachers.teacher import TeacherSpec
from jobs.steps import trained
from jobs.steps.judging import grader_spec, model_client, scorer_spec
from jobs.steps.models import found
from jobs.steps.progress import ProgressMeter


def run(context: JobContext) -> RowCounts:
    """Send every prompt to its teachers, and every answer to exactly one pool."""
    prompts = context.artifact("prompts")
    num_prompts = prompts.table("prompts").rows
    specs = _teacher_specs(context)
    samples = sum(teacher.sampling.n for teacher in context.contract.teachers.models)
    pool, block = context.profile.cpu, context.profile.teacher.block(num_prompts, answers=samples)
    routing = _routing(context)
    rows = stream.read(prompts, "prompts", teachers.reading_pool(specs, pool, routing), rows=block)
    rows = teachers.answer(rows, specs, pool, routing)
    return judge(context, rows, num_prompts * samples)


def judge(context: JobContext, answers: Rows, total: int) -> RowCounts:
    """Write each of `answers`, with its pool, to the table `candidates`. `total` counts the skipped answers, too."""
    (context.ledger / MARKERS).remove()  # crashes of an earlier attempt say nothing about this one
    spec, budget = grader_spec(context), context.ledger / JUDGE_TOKENS
    paid_before = {payee: usage.tokens for payee, usage in usage_in(budget).items()}
    rows = judges.grade(answers, spec, context.profile.cpu)
    if scorer := scorer_spec(context):
        rows = judges.measure(rows, scorer, context.profile.cpu)
    meter = ProgressMeter(context.job.name, total=total, progress=context.progress)
    summarize = partial(_summary, section=context.contract.teachers, scores=spec.section.audit is not None)
    target = stream.Target(context.writer.folder / "candidates", CANDIDATE, label="pool", summarize=summarize)
    written = stream.write(rows, target, context.profile.cpu, progress=meter)

    context.writer.tables["candidates"] = written.table
    judge_metrics = judge_calibration.judge_metrics(spec)
    judge_metrics = judge_metrics and _with_counts(judge_metrics, written.summaries)
    sums = {name: Counter[str]() for name in ("skipped", "relations", "confidence_tiers", "merged", "prompts")}
    for summary in written.summaries:
        for name, counts in sums.items():
            counts.update(summary[name])
    reasons = failures.merged(FailureReason(**each) for summary in written.summaries for each in summary["failures"])
    context.writer.metrics = CandidatesMetrics(
        tokens_out=written.tokens,
        judge=judge_metrics and _with_drift(context, spec, judge_metrics, written.summaries),
        judge_tokens={payee: usage.tokens - paid_before.get(payee, 0) for payee, usage in usage_in(budget).items()},
        teachers=_teachers(context, written.summaries),
        relations=dict(sorted(sums["relations"].items())),
        confidence_tiers=dict(sorted(sums["confidence_tiers"].items())),
        failures=tuple(reasons),
        merged=sums["merged"]["answers"],
    )
    if reasons:
        lines = failures.as_lines(reasons, written.table.rows)
        context.log("\n  ".join([f"{context.job.name}: answers that were not accepted, by reason", *lines]))
    pools = {pool: written.labels.get(pool, 0) for pool in POOLS}
    counter = SkippedCounter(context.contract.teachers)
    sums["skipped"] += counter.without_rows(context.artifact("prompts").table("prompts").rows - sums["prompts"]["answered"])
    total += sums["merged"]["answers"]  # merged answers are new rows; their parents keep rows of their own
    return RowCounts(total, pools | {reason: sums["skipped"][reason] for reason in counter.reasons})


def _summary(candidates: pa.Table, section: Teachers, *, scores: bool) -> Row:
    """Return the sums of one shard, which holds all answers to its prompts; plain JSON values."""
    counts = cross_teacher.count_relations([candidates])
    sums = drift.run_scores([candidates]) if scores else None
    return {
        "skipped": SkippedCounter(section)(candidates),
        "teachers": spending.teacher_totals([candidates]),
        "relations": counts.relations,
        "confidence_tiers": counts.confidence_tiers,
        "merged": {"answers": counts.merged},
        "prompts": {"answered": pc.count_distinct(candidates["prompt_id"]).as_py()},
        "failures": [each.model_dump() for each in failures.failure_reasons([candidates])],
        "judged": _judged(candidates),
        "scores": sums and {"batches": sums.batches, "passed": sums.passed.tolist(), "failed": sums.failed.tolist()},
    }


def _judged(candidates: pa.Table) -> Row:
    """Return how many answers have a confidence, and about how many rubrics or readers were asked."""
    asked = pc.greater(pc.fill_null(pc.list_value_length(candidates["dimension_scores"]), 0), 0)
    return {"judged": pc.sum(pc.is_valid(candidates["confidence"])).as_py() or 0, "asked": pc.sum(asked).as_py() or 0}


def _with_counts(judge: JudgeMetrics, summaries: list[Row]) -> JudgeMetrics:
    """Return `judge` with the counts of `_judged` in its evidence, if it has any."""
    if judge.evidence is None:
        return judge
    counts = {name: sum(summary["judged"][name] for summary in summaries) for name in ("judged", "asked")}
    is_dear = judge.evidence.free is not None
    update = {"judged": counts["judged"], "asked": counts["asked"] if is_dear else None}
    return judge.model_copy(update={"evidence": judge.evidence.model_copy(update=update)})


def _with_drift(context: JobContext, spec: GraderSpec, judge: JudgeMetrics, summaries: list[Row]) -> JudgeMetrics:
    """Return `judge` with the drift that the answers of this run show, and save their scores for the next run."""
    if judge.why:
        context.log(f"{context.job.name}: {judge.name} annotates, it decides nothing: {'; '.join(judge.why)}")
    audit = spec.section.audit
    if audit is None:
        return judge
    identity, run = judge.bound_to.judge, context.writer.final.url
    scores = drift.RunScores()
    for shard in (summary["scores"] for summary in summaries):
        scores.batches += [drift.Sums(*batch) for batch in shard["batches"]]
        scores.passed += np.array(shard["passed"])
        scores.failed += np.array(shard["failed"])
    probes = drift.drift_probes(scores, audit, drift.latest(spec.client.ledger, identity, run))
    drift.save(spec.client.ledger, JudgeScores(judge=identity, run=run, created=time.time(), scores=scores.all))
    return judge.model_copy(update={"audit": (*judge.audit, *probes)})


def _teacher_specs(context: JobContext) -> list[TeacherSpec | LabelsSpec]:
    return [
        _teacher_spec(context, section) if section.answers else LabelsSpec(section.name)
        for section in context.contract.teachers.models
    ]


def _teacher_spec(context: JobContext, section: Teacher) -> TeacherSpec:
    teacher = trained.asked(section, context.contract.specialist, context.root, context.profile.weights_cache)
    return TeacherSpec(
        section=teacher.section,
        specialist=teacher.specialist,
        client=model_client(context, teacher.model, "answers", payee=section.name),
        checks=context.contract.judges.checks,
        toolset=trained.tools_of(context, section),
        systems=teacher.systems,
    )


def _routing(context: JobContext) -> Routing | None:
    routes = context.contract.teachers.routes
    if routes is None:
        return None
    models = {route.nearest.model for route in routes if route.nearest}
    return Routing(routes, context.profile.embedder, {model: found(context, model) for model in models})


def _teachers(context: JobContext, summaries: list[Row]) -> dict[str, TeacherSpending]:
    """Return teacher -> its usage over all shards."""
    profile, shares = context.profile, dict[str, float]()
    for teacher in context.contract.teachers.models:
        share = profile.machine_share(profile.teacher_of(teacher.name), blocks=len(summaries))
        shares[teacher.name] = 0.0 if teacher.model.type == "endpoint" else share
    totals: dict[str, TeacherTotals] = {}
    for name, values in (item for summary in summaries for item in summary["teachers"].items()):
        totals[name] = totals.get(name, TeacherTotals()).plus(TeacherTotals(*values))
    return {
        name: TeacherSpending(**total._asdict(), machine_seconds=total.seconds * shares.get(name, 1.0))
        for name, total in sorted(totals.items())
    }
