"""Teacher, students, champion and baselines before the holdout: predictions, report.json and the page."""

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from engine.contract import Contract
from engine.contract.models import VllmModel
from engine.contract.specialist import TaskUnit
from engine.contract.students import Student
from engine.curation.represent import represent
from engine.errors import StorageError
from engine.evaluation import flow
from engine.evaluation.assess import EvalResult, assess
from engine.evaluation.baseline import Known, text_of
from engine.evaluation.examine import EvalTarget
from engine.evaluation.findings import findings
from engine.evaluation.predict import predictions
from engine.records.judge import JudgeMetrics
from engine.release.gate import decide
from engine.release.registry import CONTRACT, REPORT, Registry, beside
from engine.rows import EXAMPLE, FINISH_REASONS, HOLDOUT, KINDS, PREDICTION
from engine.runs.job import JobContext
from engine.storage.artifact import Artifact, RowCounts, load_artifact
from engine.storage.shards import iterate
from jobs.steps.judging import weights
from jobs.steps.toolset import toolset

PAGE, ABLATION = "index.html", "ablation/ablation.json"


def run(context: JobContext) -> RowCounts:
    """Every model answers every holdout prompt; report.json says how they compare (its keys: README)."""
    prompts = context.artifact("prompts")
    holdout = prompts.read("holdout", HOLDOUT).to_pylist()
    seen = scenarios(prompts)
    notes = [*_capped(context), *_judging(context.contract, _judge(context))]
    targets = [*_teachers(context), *_students(context, notes), *_champion(context, notes), *_baselines(context)]

    def progress(line: str) -> None:
        context.progress(f"{context.job.name}: {line}")

    timed = context.contract.evaluation.latency_prompts
    checks = context.contract.evaluation.checks
    examined = flow.examine(targets, holdout, context.profile.evaluator, timed=timed, progress=progress)
    results = [
        EvalResult(target, found, predictions(target, holdout, found, scenarios=seen, final=final, checks=checks))
        for target, found in zip(targets, examined, strict=True)
    ]
    _write(context, results, notes)
    finish_reasons = Counter(answer.finish_reason for result in results for answer in result.found.completions)
    return RowCounts(
        len(targets) * len(holdout), {finish_reason: finish_reasons[finish_reason] for finish_reason in FINISH_REASONS}
    )


def scenarios(prompts: Artifact) -> set[str]:
    """Return those of the training prompts."""
    found: set[str] = set()
    for piece in iterate(prompts.folder / "prompts", prompts.table("prompts"), ["scenario"]):
        found.update(piece["scenario"].to_pylist())
    return found


def report(contract: Contract, results: list[EvalResult], *, run: str, notes: list[str]) -> dict[str, Any]:
    """Return what report.json holds. A number that does not exist for a model is null; an interval is {value, low, high, n}.

    - `run`, `contract`, `created` (UTC), `holdout` {rows, seen, unseen}: unseen = its scenario never occurs in training
    - `models`, each: `name`, `role` (teacher, student, champion, baseline), `parameters`, `layers`, `size_vs_teacher` (parameters
      over the teacher's), `error` (why it could not be examined)
        - `metrics`: exact_match, exact_match_unseen, exact_match_seen, field_f1 (macro), schema_validity, abstain_precision,
          abstain_recall, ece, brier: intervals
        - `fields` {field: {precision, recall, f1}}, `checks` {check of the contract: interval of the share that passes},
          `slices` {dimension: {value: {n, exact_match: interval, checks}}}
        - `latency` {p50_ms, p95_ms, n}: alone in the engine; `tokens_per_second`: in batches; `memory_mib`: of the process
        - `cost` {per_1000_accepted, answered_share, fallback_share, accepted_share}: below `answer_above` the teacher answers
        - `calibration` {bins: [{low, high, n, confidence, accuracy}]}
        - `against_teacher` {teacher, difference, retention, retention_unseen}: intervals, paired; null for the teacher itself
        - `against_baselines` {name: interval of the difference in exact match}, paired
    - `gate` {passing: names, smallest first; refusals: {student: [number]}; numbers: {student: [number]}; winner}, where a number
      is {number, found, wanted, low, high, at_most, passed}
    - `findings`: sentences to read before the numbers
    - `curation` {selection: what picking did (engine/curation/measure.py), or null without embeddings; decontamination: what of the
      training set resembled what must stay unknown (engine/curation/leaks.py)}; added when the report is written
    - `judge`: what is known of it (engine/records/judge.py: JudgeMetrics), with its audit; null without one; added likewise
    - `ablation`: what `rayleigh ablate` found (jobs/ablate.py), or null; added when the report is written
    """
    rows = results[0].predictions
    seen = sum(rows["seen"].to_pylist())
    holdout = {"rows": rows.num_rows, "seen": seen, "unseen": rows.num_rows - seen}
    models = assess(results, contract.evaluation, contract.specialist, contract.budget.price)
    gate = decide(models, contract.gate)
    said = findings(models, holdout=holdout, gate=gate, notes=notes, level=contract.evaluation.level)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    head = {"run": run, "contract": contract.name, "created": created, "holdout": holdout}
    return {**head, "models": models, "gate": gate, "findings": said}


def _write(context: JobContext, results: list[EvalResult], notes: list[str]) -> None:
    from engine.report.collect import gather
    from engine.report.page import page

    numbers = report(context.contract, results, run=context.run.url, notes=notes)
    made = context.artifact("dataset").record.metrics
    numbers["judge"] = _judge(context)
    numbers["curation"] = {name: made.get(name) for name in ("selection", "decontamination")}
    numbers["ablation"] = _ablation(context)
    table = pa.concat_tables([result.predictions for result in results])
    context.writer.put("predictions", table, PREDICTION)
    context.writer.folder.write(REPORT, json.dumps(numbers, indent=1, allow_nan=False).encode())
    context.writer.folder.write(CONTRACT, context.contract.model_dump_json(indent=1).encode())
    contract = context.contract.model_dump(mode="json")
    facts = gather(_artifacts(context), report=numbers, contract=contract, predictions=table)
    context.writer.folder.write(PAGE, page(facts).encode())


def _ablation(context: JobContext) -> dict[str, Any] | None:
    """What `rayleigh ablate` has found of this very dataset, if it was asked before the report is made."""
    if not context.run.exists(ABLATION):
        return None
    found = json.loads(context.run.read(ABLATION))
    return found if found["dataset"] == context.artifact("dataset").fingerprint else None


def _artifacts(context: JobContext) -> dict[str, Artifact]:
    """All that the page draws on, by job; what was not made is left out."""
    found = {name: load_artifact(context.run / name) for name in context.job.needs}
    return {name: artifact for name, artifact in found.items() if artifact}


def final(answer: str, unit: TaskUnit) -> str:
    """Return what of `answer` is examined."""
    return represent(answer, unit).final


def _judging(contract: Contract, judge: dict[str, Any] | None) -> list[str]:
    if contract.teachers.mode == "direct" or not contract.judges.rubrics:
        return ["No judge marked the answers: the checks alone decided what the students learn."]
    if contract.judges.calibrate is None:
        return ["The judge was never calibrated: its confidence is not a probability of being right."]
    if judge is None:
        return ["No answer was worth a judge's time: the checks alone decided what the students learn."]
    notes = [f"The judge decided nothing, its confidence only stands beside the answers: {why}." for why in judge["why"]]
    late = [one for one in judge["audit"] if one["probe"] in ("batches", "runs") and one["verdict"] == "beyond"]
    return notes + [
        f"The judge's scores drift between {one['probe']}: by {one['value']:.2f}, more than the {one['limit']:g} of the contract."
        for one in late
    ]


def _judge(context: JobContext) -> dict[str, Any] | None:
    judge = context.artifact("candidates").record.metrics.get("judge")
    return judge and JudgeMetrics.model_validate(judge).model_dump(mode="json")


def _capped(context: JobContext) -> list[str]:
    teachers = context.artifact("candidates").record.metrics.get("teachers", {}).values()
    budget_exhausted, answers = sum(one["budget_exhausted"] for one in teachers), sum(one["answers"] for one in teachers)
    if not budget_exhausted:
        return []
    cap = context.contract.budget.teacher_tokens
    return [
        f"The budget of {cap} teacher tokens was spent: {budget_exhausted} of {budget_exhausted + answers} answers were not asked for."
    ]


def _units(context: JobContext) -> dict[str, TaskUnit]:
    return {unit.name: unit for unit in context.contract.specialist.task_units}


def _teachers(context: JobContext) -> Iterator[EvalTarget]:
    for section in context.contract.teachers.models:
        folder = weights(context, section.model)
        yield EvalTarget(
            name=section.name,
            role="teacher",
            model=section.model,
            units=_units(context),
            folder=str(folder) if folder else None,
            systems={unit: section.system for unit in _units(context)},
            shots=section.shots,
            structured=section.structured,
            thinks=section.thinks,
            max_tokens=section.sampling.max_tokens,
            toolset=toolset(context),
        )


def _students(context: JobContext, notes: list[str]) -> Iterator[EvalTarget]:
    """The students that were trained; one that was not leaves a note, not a gap."""
    for section in context.contract.students:
        artifact = load_artifact(context.run / f"students/{section.name}")
        if artifact is None:
            notes.append(f"{section.name} was not trained: it is in no table.")
            continue
        yield trained(context, section, name=section.name, role="student", folder=f"{artifact.folder}/model", units=_units(context))


def _champion(context: JobContext, notes: list[str]) -> Iterator[EvalTarget]:
    """Whoever holds the title when the report is made; it is a fact of the report, never part of its identity."""
    registry = Registry(beside(context.run), context.contract.name)
    holder = registry.champion
    context.writer.facts["champion"] = holder
    if holder is None:
        return
    ours = {f"students/{student.name}": student.name for student in context.contract.students}
    same = [name for path, name in ours.items() if _fingerprint(context, path) == holder["fingerprint"]]
    if same:
        notes.append(f"{same[0]} is the champion of this contract.")
        return
    try:
        ordered = Contract.model_validate_json(registry.paper(holder, CONTRACT))
    except (ValueError, StorageError) as error:
        notes.append(f"The champion {holder['student']} was not asked: its contract cannot be read: {str(error).splitlines()[0]}")
        return
    units = {unit.name: unit for unit in ordered.specialist.task_units}  # it is asked as it was taught
    units = {name: units.get(name, unit) for name, unit in _units(context).items()}
    folder = registry.model_folder(holder).url
    yield trained(context, ordered.student(holder["student"]), name="champion", role="champion", folder=folder, units=units)


def _fingerprint(context: JobContext, name: str) -> str | None:
    found = load_artifact(context.run / name)
    return found.fingerprint if found else None


def trained(
    context: JobContext, section: Student, *, name: str, role: str, folder: str, units: Mapping[str, TaskUnit]
) -> EvalTarget:
    """Return how a model that was trained is examined: as it was taught, without worked examples."""
    tools = toolset(context)
    return EvalTarget(
        name=name,
        role=role,
        model=VllmModel(type="vllm", path=folder, dtype=section.dtype),
        units=units,
        folder=folder,
        systems={unit.name: unit.instruction for unit in units.values()},
        max_tokens=max(teacher.sampling.max_tokens for teacher in context.contract.teachers.models),
        toolset=dataclasses.replace(tools, in_system_text=False) if tools else None,
    )


def _baselines(context: JobContext) -> Iterator[EvalTarget]:
    sections = context.contract.evaluation.baselines
    if not sections:
        return
    examples = context.artifact("dataset").read("examples", EXAMPLE, ["messages", "final", "split", "kind"]).to_pylist()
    learnt = [example for example in examples if example["split"] == "train" and example["kind"] not in KINDS[1:]]
    known = Known([text_of(example["messages"]) for example in learnt], [example["final"] for example in learnt])
    for section in sections:
        yield EvalTarget(name=section.name, role="baseline", model=section, units=_units(context), known=known)
