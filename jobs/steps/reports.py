"""Evaluates teachers, students, champion and baselines on the holdout; writes predictions, `report.json` and the page.

The keys of `report.json`: `engine/records/report.py`, and the table in `engine/report/README.md`.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import cast

import pyarrow as pa

from engine.contract.contract import Contract
from engine.contract.specialist import TaskUnit
from engine.curation.represent import represent
from engine.errors import StorageError, StoreUnreachable
from engine.evaluation import advice, flow
from engine.evaluation.ahead import Ahead
from engine.evaluation.answers import EvalLedger
from engine.evaluation.baseline import TrainingExamples, user_text
from engine.evaluation.evaluator import EvalTarget
from engine.evaluation.predict import predictions
from engine.evaluation.result import EvalResult
from engine.grading.failures import counted
from engine.inference.crash_isolation import MARKERS
from engine.records.ablation import Ablation
from engine.records.candidates import CandidatesMetrics
from engine.records.judge import JudgeMetrics
from engine.records.release import RegistryEvent, ReportsMetrics
from engine.records.report import CurationSummary, Role
from engine.records.student import StudentMetrics
from engine.release.registry import CONTRACT, REPORT, Registry, default_registry
from engine.rows import EXAMPLE, FINISH_REASONS, HOLDOUT, KINDS, PREDICTION
from engine.runs.job import JobContext
from engine.storage.artifact import Artifact, RowCounts, load_artifact, nan_findings
from engine.storage.shards import iterate
from engine.students.export import gguf
from jobs.steps import on_policy
from jobs.steps.curves import curves
from jobs.steps.deployed import Place, asking, student_target, units_of
from jobs.steps.exports import exports
from jobs.steps.judging import weights
from jobs.steps.toolset import toolset
from jobs.steps.trained import asked, tools_of
from jobs.steps.verdict import Setting, Verdict, cluster_labels, verdict
from jobs.steps.worth import worth

PAGE, ABLATION = "index.html", "ablation/ablation.json"


def run(context: JobContext) -> RowCounts:
    """Evaluate every model on every holdout prompt and write the report."""
    prompts, ahead = context.artifact("prompts"), cast(Ahead | None, context.begun)
    holdout = prompts.read("holdout", HOLDOUT).to_pylist()
    seen = scenarios(prompts)
    champion = Registry(default_registry(context.run), context.contract.name).champion
    context.writer.metrics = ReportsMetrics(champion=champion)
    targets, notes = _plan(context, champion)

    def progress(line: str) -> None:
        context.progress(f"{context.job.name}: {line}")

    section = context.contract.evaluation
    if ahead is None:
        forget_deaths(context)
    timed, kept = section.latency_prompts, ahead.take() if ahead else flow.Kept(ledger(context))
    evaluations = flow.evaluate(targets, holdout, context.profile, timed=timed, progress=progress, kept=kept)
    results = [
        EvalResult(target, each, predictions(target, holdout, each, scenarios=seen, final=final, checks=section.checks))
        for target, each in zip(targets, evaluations, strict=True)
    ]
    labels = cluster_labels(holdout, section.cluster)
    setting = Setting(labels, _champion_name(context, champion), look=lambda student, part: _look(context, student, part))
    _write(context, verdict(context.contract, results, setting, run=context.run.url, notes=notes))
    _log_failures(context, results)
    ended = Counter(completion.finish_reason for result in results for completion in result.evaluated.completions)
    return RowCounts(len(targets) * len(holdout), {finish_reason: ended[finish_reason] for finish_reason in FINISH_REASONS})


def forget_deaths(context: JobContext) -> None:
    """Forget which answers killed their engines in an earlier attempt: that says nothing of this one."""
    (context.ledger / MARKERS / "evaluation").remove()


def ledger(context: JobContext) -> EvalLedger:
    """Return where answers to the holdout are kept."""
    return EvalLedger(rows=context.paid / "evaluation", own=context.ledger)


def _log_failures(context: JobContext, results: list[EvalResult]) -> None:
    """Print the most frequent reasons of answers to the holdout that did not end by themselves."""
    failed = [
        (f"{result.target.name}: {row['finish_reason']}", completion.error, f"prompt {row['prompt_id'][:12]}: {row['text'][:80]!r}")
        for result in results
        for row, completion in zip(result.predictions.to_pylist(), result.evaluated.completions, strict=True)
        if completion.finish_reason != "stop"
    ]
    if failed:
        lines = counted(failed, sum(result.predictions.num_rows for result in results))
        context.log("\n  ".join([f"{context.job.name}: answers without an end, by reason", *lines]))


def scenarios(prompts: Artifact) -> set[str]:
    """Return the scenarios of the training prompts."""
    pieces = iterate(prompts.folder / "prompts", prompts.table("prompts"), ["scenario"])
    return {scenario for piece in pieces for scenario in piece["scenario"].to_pylist()}


def _write(context: JobContext, written: Verdict) -> None:
    from engine.report.collect import collect
    from engine.report.page import page

    curation = CurationSummary.model_validate(context.artifact("dataset").record.metrics)
    more = {"judge": _judge(context), "curation": curation, "ablation": _ablation(context)}
    numbers = written.report.model_copy(update=more)
    found = worth(context, written.results, numbers.models)
    niche = context.contract.specialist.niche
    found_curves = curves(written.results, context.contract.budget.price, answer_above=niche.answer_above)
    findings = (*numbers.findings, *advice.findings(found))
    numbers = numbers.model_copy(update={"worth": found, "cascade": found_curves, "findings": findings})
    table = pa.concat_tables(written.predictions)
    context.writer.put("predictions", table, PREDICTION)
    context.writer.folder.write(REPORT, numbers.model_dump_json(indent=1).encode())
    context.writer.folder.write(CONTRACT, context.contract.model_dump_json(indent=1).encode())
    contract = context.contract.model_dump(mode="json")
    names = [*context.job.needs, *(["capture"] if context.contract.capture else [])]
    artifacts = {name: artifact for name in names if (artifact := load_artifact(context.run / name))}
    data = collect(artifacts, report=numbers, contract=contract, predictions=table)
    context.writer.folder.write(PAGE, page(data).encode())


def _ablation(context: JobContext) -> Ablation | None:
    """Return the result of `rayleigh ablate` on this very dataset; None if there is none."""
    if not context.run.exists(ABLATION):
        return None
    ablation = Ablation.model_validate(json.loads(context.run.read(ABLATION)))
    return ablation if ablation.dataset == context.artifact("dataset").fingerprint else None


def final(answer: str, unit: TaskUnit) -> str:
    """Return the part of `answer` that is compared with the reference."""
    return represent(answer, unit).final


def _plan(context: JobContext, champion: RegistryEvent | None) -> tuple[list[EvalTarget], list[str]]:
    """Return what is evaluated, and notes on what is not."""
    notes = [*_budget_notes(context), *_judge_notes(context.contract, _judge(context)), *_nan_notes(context)]
    targets = [*teachers(context), *_students(context, notes)]
    if champion:
        targets += _champion(context, champion, notes)
    return [*targets, *_baselines(context)], notes


def _judge_notes(contract: Contract, judge: JudgeMetrics | None) -> list[str]:
    if contract.teachers.mode == "direct" or not (contract.judges.rubrics or contract.judges.evidence):
        return ["No judge scored the answers: only the checks selected what the students learn."]
    if contract.judges.calibrate is None:
        return ["The judge was never calibrated: its confidence is not a probability of being right."]
    if judge is None:
        return ["No answer reached the judge: only the checks selected what the students learn."]
    notes = [f"The judge's confidence is recorded but decides nothing: {why}." for why in judge.why]
    drifted = [probe for probe in judge.audit if probe.probe in ("batches", "runs") and probe.verdict == "beyond"]
    return notes + [
        f"The judge's scores drift between {probe.probe}: by {probe.value:.2f}, the contract allows {probe.limit:g}."
        for probe in drifted
    ]


def _judge(context: JobContext) -> JudgeMetrics | None:
    return context.artifact("candidates").metrics(CandidatesMetrics).judge


def _budget_notes(context: JobContext) -> list[str]:
    teachers = context.artifact("candidates").metrics(CandidatesMetrics).teachers.values()
    exhausted, answers = sum(each.budget_exhausted for each in teachers), sum(each.answers for each in teachers)
    if not exhausted:
        return []
    cap = context.contract.budget.teacher_tokens
    return [f"The budget of {cap} teacher tokens was used up: {exhausted} of {exhausted + answers} answers were not requested."]


def _nan_notes(context: JobContext) -> Iterator[str]:
    for name in context.job.needs:
        if artifact := load_artifact(context.run / name):
            yield from nan_findings(name, artifact.record.tables)


def teachers(context: JobContext) -> Iterator[EvalTarget]:
    """Yield the teachers that answer; labels would answer with the references that they are compared with."""
    for section in context.contract.teachers.models:
        if not section.answers:
            continue
        teacher = asked(section, context.contract.specialist, context.root, context.profile.weights_cache)
        yield EvalTarget(
            name=section.name,
            role="teacher",
            model=teacher.model,
            units=teacher.units,
            folder=weights(context, teacher.model),
            systems={unit: teacher.systems.get(unit, section.system) for unit in teacher.units},
            shots=section.shots,
            structured=teacher.section.structured,
            thinks=section.thinks,
            max_tokens=section.sampling.max_tokens,
            toolset=tools_of(context, section),
        )


def _students(context: JobContext, notes: list[str]) -> Iterator[EvalTarget]:
    """Yield the trained students; add a note for each student that was not trained."""
    for section in context.contract.students:
        artifact = load_artifact(context.run / f"students/{section.name}")
        if artifact is None:
            notes.append(f"{section.name} was not trained, as its training failed or has not ended, so it is in no table.")
            continue
        if section.on_policy and (rounds := artifact.metrics(StudentMetrics).on_policy):
            notes += on_policy.warnings(section, rounds)
        for name, made in ((section.name, artifact), *exports(context, section, notes)):
            folder, units = f"{made.folder}/model", units_of(context.contract)
            yield trained(context, context.contract, name, role="student", folder=folder, units=units)


def _champion(context: JobContext, champion: RegistryEvent, notes: list[str]) -> Iterator[EvalTarget]:
    """Yield the champion, unless it is a student of this run or its contract cannot be read; then add a note."""
    registry = Registry(default_registry(context.run), context.contract.name)
    for job in (name for name in context.job.needs if name.startswith(("students/", "exports/"))):
        artifact = load_artifact(context.run / job)
        if artifact and artifact.fingerprint == champion.fingerprint:
            notes.append(f"{job.partition('/')[2].replace('/', '.')} is the champion of this contract.")
            return
    try:
        contract = Contract.model_validate_json(registry.read_file(champion, CONTRACT))
    except StoreUnreachable:
        raise
    except (ValueError, StorageError) as error:
        why = str(error).splitlines()[0]
        notes.append(f"The champion {champion.student} was not evaluated: its contract cannot be read: {why}")
        return
    units = {**units_of(context.contract), **units_of(contract)}  # the champion is prompted as it was trained
    units = {name: units[name] for name in units_of(context.contract)}
    folder = registry.model_folder(champion).url
    yield trained(context, contract, champion.student, role="champion", folder=folder, units=units)


def _champion_name(context: JobContext, champion: RegistryEvent | None) -> str | None:
    """Return the name of the model that is the champion: `champion`, or that of a student or export of this run."""
    if champion is None:
        return None
    jobs = [name for name in context.job.needs if name.startswith(("students/", "exports/"))]
    made = {name: artifact.fingerprint for name in jobs if (artifact := load_artifact(context.run / name))}
    own = [name.partition("/")[2].replace("/", ".") for name, fingerprint in made.items() if fingerprint == champion.fingerprint]
    return next(iter(own), "champion")


def _look(context: JobContext, student: str, part: str) -> int:
    """Count in the registry that the closed part of the holdout was opened for `student`."""
    name, _, export = student.partition(".")
    made = context.artifact(f"exports/{name}/{export}" if export else f"students/{name}")
    registry = Registry(default_registry(context.run), context.contract.name)
    return registry.look(student, made.fingerprint, part)


def trained(
    context: JobContext, contract: Contract, deployment: str, *, role: Role, folder: str, units: Mapping[str, TaskUnit]
) -> EvalTarget:
    """Return how a student of `contract` or its export is evaluated: with the prompt of its training, without shots."""
    place = Place(folder, gguf.PACKAGES.folder(context.profile, context.models))
    how = asking(context.contract)._replace(units=units, role=role, toolset=toolset(context))
    return student_target(contract, deployment, place, how)


def _baselines(context: JobContext) -> Iterator[EvalTarget]:
    sections = context.contract.evaluation.baselines
    if not sections:
        return
    rows = context.artifact("dataset").read("examples", EXAMPLE, ["messages", "final", "split", "kind"]).to_pylist()
    rows = [row for row in rows if row["split"] == "train" and row["kind"] not in KINDS[1:]]
    examples = TrainingExamples([user_text(row["messages"]) for row in rows], [row["final"] for row in rows])
    for section in sections:
        yield EvalTarget(name=section.name, role="baseline", model=section, units=units_of(context.contract), examples=examples)
