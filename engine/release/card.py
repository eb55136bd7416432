"""The model card of a release (Mitchell et al., "Model Cards for Model Reporting", FAT* 2019) as `huggingface_hub` reads it.

The YAML header holds what a hub indexes: name, languages, base model, evaluation results. The body holds the contract's goal, data,
training, quality, gate, limits and lineage.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from engine.contract.gate import Gate
from engine.contract.specialist import Specialist
from engine.contract.students import Student
from engine.contract.teachers import Teacher
from engine.records.estimate import Estimate
from engine.records.gate import POINT, GateDecision
from engine.records.release import LineageEntry
from engine.records.report import ModelEntry, Report
from engine.release.explain import explain


class Provenance(NamedTuple):
    """Where a student came from."""

    contract: str
    student: Student
    deployment: str  # the student's name, or that of its export, such as s.q8_0
    teachers: Sequence[Teacher]
    licences: Mapping[str, int]  # licence -> prompts
    examples: Mapping[str, int]  # split -> examples
    labels: str  # who wrote the holdout's references: rule or human
    lineage: Mapping[str, LineageEntry]


def card(
    specialist: Specialist,
    provenance: Provenance,
    *,
    report: Report,
    gate: Gate,
    decision: GateDecision | None = None,
    why: str | None = None,
) -> str:
    """Return the card in Markdown with a YAML header. The student is that of `provenance`.

    `decision`: what the student was released by, by default the report's. `why`: the reason for releasing an undecided student.

    Raises:
        KeyError: `report` has no such student.
    """
    entry = report.model(provenance.deployment)
    sections = [
        f"# {provenance.contract}: {entry.name}",
        specialist.goal,
        _use(specialist),
        _data(provenance, report),
        _training(provenance, entry),
        _quality(entry, report),
        _gate(decision or report.gate, entry.name, gate, why),
        _limits(report.findings),
        _serving(entry, specialist),
        _lineage(provenance),
    ]
    header = _header(specialist, provenance, entry).to_yaml()
    return str(ModelCard(f"---\n{header}\n---\n\n" + "\n\n".join(sections) + "\n", ignore_metadata_errors=True))


def _header(specialist: Specialist, provenance: Provenance, entry: ModelEntry) -> ModelCardData:
    source = provenance.student.init.source
    try:
        validate_repo_id(source or "")
    except HFValidationError:
        source = None  # a local folder
    return ModelCardData(
        model_name=f"{provenance.contract}-{entry.name}",
        language=list(specialist.niche.languages),
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=source,
        tags=["distillation", "rayleigh"],
        eval_results=[
            EvalResult(
                task_type="text-generation", dataset_type="holdout", dataset_name=f"{provenance.contract} holdout",
                metric_type=name, metric_value=interval.value,
            )
            for name, interval in entry.metrics
            if interval
        ],
    )  # fmt: skip


def _use(specialist: Specialist) -> str:
    niche = specialist.niche
    units = "\n".join(f"- `{unit.name}` ({unit.kind}): {unit.instruction}" for unit in specialist.task_units)
    non_goals = "\n".join(f"- {goal}" for goal in specialist.non_goals) or "- none named"
    scope = f"Languages: {', '.join(niche.languages)}. Data class: {niche.data_class}. Hardware: {niche.hardware}."
    if niche.answer_above:
        scope += f" Requests answered with a confidence below {niche.answer_above:g} should go to the teacher."
    return f"## Use\n\n{scope}\n\n{units}\n\nNot for:\n\n{non_goals}"


def _data(provenance: Provenance, report: Report) -> str:
    licences = "\n".join(f"| {licence} | {count} |" for licence, count in sorted(provenance.licences.items()))
    examples = ", ".join(f"{count} {split}" for split, count in sorted(provenance.examples.items()))
    return (
        f"## Data\n\n| licence | prompts |\n|---|---|\n{licences}\n\nExamples: {examples}. Holdout: {report.holdout.rows} prompts "
        f"with references by {provenance.labels}, {report.holdout.unseen} of them of scenarios that never occur in training."
    )


def _training(provenance: Provenance, entry: ModelEntry) -> str:
    student = provenance.student
    teachers = "; ".join(map(_teacher, provenance.teachers))
    share = "" if entry.size_vs_teacher is None else f", {entry.size_vs_teacher:.2f} of the teacher"
    if entry.weight_bytes:
        share += f", {entry.weight_bytes / 1e6:.1f} MB of weights"
    return (
        f"## Training\n\nTeachers: {teachers}.\n\nStudent: {_count(entry.parameters)} parameters{share}; "
        f"initialized from {student.init.summary}; at most {student.epochs} epochs, "
        f"learning rate {student.learning_rate:g}, {student.dtype}.{_exported(entry)}"
    )


def _teacher(teacher: Teacher) -> str:
    shots = f", {teacher.shots.count} few-shot examples" if teacher.answers else ""
    return f"{teacher.name} ({teacher.model.path}{shots})"


def _exported(entry: ModelEntry) -> str:
    """Return what an export has in common with its student; "" for a student."""
    comparison = entry.against_student
    same = comparison and comparison.same_answer
    if not comparison:
        return ""
    share = f", with the same answer as {comparison.student} to {same.value:.3f} of the holdout" if same else ""
    return f" Exported from {comparison.student}{share}."


def _quality(entry: ModelEntry, report: Report) -> str:
    metrics = "\n".join(f"| {name} | {_cells(interval)} |" for name, interval in _intervals(entry))
    models = "\n".join(
        f"| {model.name} | {model.role} | {_count(model.parameters)} | {_cells(model.metrics.exact_match)} |"
        for model in report.models
    )
    speed = ""
    if entry.latency:
        speed = f"\n\nLatency alone in the engine: p50 {entry.latency.p50_ms:.0f} ms, p95 {entry.latency.p95_ms:.0f} ms."
    if entry.cost and entry.cost.per_1000_accepted is not None:
        speed += f" Cost per 1,000 right answers, fallbacks to the teacher included: {entry.cost.per_1000_accepted:.4f}."
    return (
        f"## Quality\n\n| metric | value | interval | n |\n|---|---|---|---|\n{metrics}\n\n"
        f"| model | role | parameters | exact match | interval | n |\n|---|---|---|---|---|---|\n{models}{speed}"
    )


def _intervals(entry: ModelEntry) -> Iterator[tuple[str, Estimate | None]]:
    yield from entry.metrics
    if comparison := entry.against_teacher:
        yield "difference", comparison.difference
        yield "retention", comparison.retention
        yield "retention_unseen", comparison.retention_unseen


def _gate(decision: GateDecision, student: str, gate: Gate, why: str | None) -> str:
    numbers = decision.numbers.get(student, ())
    if not numbers:
        return "## Gate\n\nThe contract has no requirement."
    words = {"pass": "met", "refuse": "NOT met", "undecided": "UNDECIDED"}
    lines = [f"- {words[number.word or ('pass' if number.passed else 'refuse')]}: {explain(number)}" for number in numbers]
    if decision.by == "point":
        head = f"**{POINT}**"
    else:
        head = f"Each requirement is proven with a risk of at most {gate.level:g} of passing a student that misses it."
    lines += [f"- {decision.because[student]}"] if student in decision.because else []
    lines += [f"- {decision.confirmation.sentence}"] if decision.confirmation else []
    lines += [f"\n**The gate is undecided on this student. It was promoted because: {why}**"] if why else []
    return "\n".join([f"## Gate\n\n{head}\n", *lines])


def _limits(findings: Sequence[str]) -> str:
    lines = "\n".join(f"- {finding}" for finding in findings) or "- nothing beyond the intervals above"
    return f"## Limits\n\n{lines}"


def _serving(entry: ModelEntry, specialist: Specialist) -> str:
    fields = sorted({field for unit in specialist.task_units for field in unit.output.spans})
    spans = f", {', '.join(fields)} limited to spans of the prompt as in `engine.inference.structured`" if fields else ""
    vllm = "`model` next to this card is a Hugging Face folder for vLLM. "
    gguf = (
        "`model/model.gguf` next to this card is read by llama.cpp; it was evaluated with the token ids of the chat template in "
        "`model`. "
    )
    return (
        "## Serving\n\n`rayleigh serve FOLDER --local`, with the folder of this card, answers as measured: `deployment.json` says "
        f"how. {gguf if entry.runtime == 'llama_cpp' else vllm}With another server, send the task unit's instruction as the system "
        f"message, no few-shot examples, and its JSON schema as structured output{spans}; what it answers then was not measured."
    )


def _lineage(provenance: Provenance) -> str:
    lines = "\n".join(f"| {name} | `{entry.fingerprint}` | {entry.commit or ''} |" for name, entry in provenance.lineage.items())
    head = "| artifact | fingerprint | commit |\n|---|---|---|"
    return f"## Lineage\n\n{head}\n{lines}\n\nInputs, versions and row counts: `lineage.json`."


def _cells(interval: Estimate | None) -> str:
    return f"{interval.value:.3f} | {interval.low:.3f} to {interval.high:.3f} | {interval.n}" if interval else "none | | "


def _count(parameters: int | None) -> str:
    return "?" if parameters is None else f"{parameters / 1e6:.1f} M" if parameters >= 100_000 else str(parameters)
