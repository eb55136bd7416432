"""The model card: what was ordered, what it was made of, how good it is, what it is not for (Mitchell et al., FAT* 2019)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engine.contract.evaluation import Gate
from engine.contract.specialist import Specialist
from engine.contract.students import Student
from engine.contract.teachers import Teacher
from engine.release.gate import explain


class Provenance(NamedTuple):
    """What the card says of where a student came from."""

    contract: str
    student: Student
    teachers: Sequence[Teacher]
    licences: Mapping[str, int]  # licence -> prompts under it
    examples: Mapping[str, int]  # split -> examples
    labels: str  # who wrote the holdout's references: rule or human
    lineage: Mapping[str, Mapping[str, Any]]


def card(specialist: Specialist, made: Provenance, *, entry: Mapping[str, Any], report: Mapping[str, Any], gate: Gate) -> str:
    """Return the card in Markdown. `entry` is the student's entry in `report`."""
    sections = [
        f"# {made.contract}: {entry['name']}",
        specialist.goal,
        _use(specialist),
        _data(made, report),
        _training(made, entry),
        _quality(entry, report),
        _gate(entry["name"], report["gate"], gate),
        _limits(report["findings"]),
        _serving(entry["name"], specialist),
        _lineage(made),
    ]
    return "\n\n".join(sections) + "\n"


def _use(specialist: Specialist) -> str:
    niche = specialist.niche
    units = "\n".join(f"- `{unit.name}` ({unit.kind}): {unit.instruction}" for unit in specialist.task_units)
    refused = "\n".join(f"- {goal}" for goal in specialist.non_goals) or "- none named"
    where = f"Languages: {', '.join(niche.languages)}. Data class: {niche.data_class}. Hardware: {niche.hardware}."
    if niche.answer_above:
        where += f" Answers with a confidence below {niche.answer_above:g} are meant to go to the teacher."
    return f"## Use\n\n{where}\n\n{units}\n\nNot for:\n\n{refused}"


def _data(made: Provenance, report: Mapping[str, Any]) -> str:
    licences = "\n".join(f"| {licence} | {count} |" for licence, count in sorted(made.licences.items()))
    examples = ", ".join(f"{count} {split}" for split, count in sorted(made.examples.items()))
    held = report["holdout"]
    return (
        f"## Data\n\n| licence | prompts |\n|---|---|\n{licences}\n\nExamples: {examples}. Holdout: {held['rows']} prompts "
        f"with references by {made.labels}, {held['unseen']} of them of scenarios that never occur in training."
    )


def _training(made: Provenance, entry: Mapping[str, Any]) -> str:
    student, start = made.student, made.student.init.prune
    teachers = "; ".join(f"{one.name} ({one.model.path}, {one.shots.count} worked examples)" for one in made.teachers)
    share = "" if entry["size_vs_teacher"] is None else f", {entry['size_vs_teacher']:.2f} of the teacher"
    return (
        f"## Training\n\nTeachers: {teachers}.\n\nStudent: {_count(entry['parameters'])} parameters{share}; "
        f"began as layers {', '.join(map(str, start.layers))} of {start.source}; at most {student.epochs} epochs, "
        f"learning rate {student.learning_rate:g}, {student.dtype}."
    )


def _quality(entry: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    rows = "\n".join(f"| {name} | {_cells(value)} |" for name, value in entry["metrics"].items())
    others = "\n".join(
        f"| {model['name']} | {model['role']} | {_count(model['parameters'])} | {_cells(model['metrics']['exact_match'])} |"
        for model in report["models"]
    )
    compared = "".join(
        f"| {name} | {_cells(value)} |\n" for name, value in (entry["against_teacher"] or {}).items() if name != "teacher"
    )
    speed = ""
    if entry["latency"]:
        p50, p95 = entry["latency"]["p50_ms"], entry["latency"]["p95_ms"]
        speed = f"\n\nLatency alone in the engine: p50 {p50:.0f} ms, p95 {p95:.0f} ms."
    if entry["cost"] and entry["cost"]["per_1000_accepted"] is not None:
        speed += f" Cost per 1,000 right results, fallbacks to the teacher included: {entry['cost']['per_1000_accepted']:.4f}."
    return (
        f"## Quality\n\n| metric | value | interval | n |\n|---|---|---|---|\n{rows}\n{compared and compared.rstrip()}\n\n"
        f"| model | role | parameters | exact match | interval | n |\n|---|---|---|---|---|---|\n{others}{speed}"
    )


def _gate(name: str, word: Mapping[str, Any], gate: Gate) -> str:
    asked = gate.model_dump(exclude_none=True, exclude_defaults=True)
    if not asked:
        return "## Gate\n\nThe contract asks for no number."
    lines = "\n".join(f"- {'met' if number['passed'] else 'NOT met'}: {explain(number)}" for number in word["numbers"][name])
    return f"## Gate\n\n{lines}"


def _limits(findings: Sequence[str]) -> str:
    lines = "\n".join(f"- {finding}" for finding in findings) or "- nothing beyond the intervals above"
    return f"## Limits\n\n{lines}"


def _serving(name: str, specialist: Specialist) -> str:
    quoting = sorted({field for unit in specialist.task_units for field in unit.output.spans})
    narrowed = f", {', '.join(quoting)} narrowed to spans of the prompt as `engine.inference.structured` does" if quoting else ""
    return (
        f"## Serving\n\nA Hugging Face folder, beside this card: `vllm serve ./model --served-model-name {name}`. "
        "Send the task unit's instruction as the system message, no worked examples, and its JSON schema as structured "
        f"output{narrowed}."
    )


def _lineage(made: Provenance) -> str:
    lines = "\n".join(f"| {name} | `{found['fingerprint']}` | {found['commit'] or ''} |" for name, found in made.lineage.items())
    head = "| artifact | fingerprint | commit |\n|---|---|---|"
    return f"## Lineage\n\n{head}\n{lines}\n\nAll inputs, versions and counts: `lineage.json`."


def _cells(value: Mapping[str, Any] | None) -> str:
    return f"{value['value']:.3f} | {value['low']:.3f} to {value['high']:.3f} | {value['n']}" if value else "none | | "


def _count(parameters: int | None) -> str:
    return "?" if parameters is None else f"{parameters / 1e6:.1f} M" if parameters >= 100_000 else str(parameters)
