"""What the specialist must do, and what it must refuse."""

from typing import Any, Literal

from pydantic import Field, model_validator

from engine.contract.base import JsonSchema, Name, Positive, Section, Share


class Latency(Section):
    """How fast one request must be answered."""

    p95_ms: float | None = Field(default=None, gt=0)


class Niche(Section):
    """Where the specialist lives."""

    languages: tuple[str, ...] = ("en",)
    data_class: Literal["public", "internal", "confidential"] = "internal"
    hardware: str = "cpu-2"
    latency: Latency = Latency()
    answer_above: Share = 0.0
    """Below this confidence a request falls back to the teacher, and its cost counts."""


class Output(Section):
    """The form of an answer."""

    json_schema: JsonSchema | None = None
    """JSON schema of the answer, usually `!include schema.json`; null means free text."""
    spans: dict[str, Positive] = Field(default_factory=dict)
    """Field -> most words of its value, for fields that quote the prompt: they are decoded as one of its spans."""

    @model_validator(mode="after")
    def spans_are_of_fields(self) -> "Output":
        fields = (self.json_schema or {}).get("properties", {})
        unknown = sorted(set(self.spans) - set(fields))
        if unknown:
            raise ValueError(f"spans: found {unknown}, expected properties of json_schema: {sorted(fields) or 'it has none'}")
        other = sorted(name for name in self.spans if not _is_text(fields[name]))
        if other:
            raise ValueError(f"spans: {other} are not declared as string, or as string or null; only text can be quoted")
        return self


def _is_text(field: JsonSchema) -> bool:
    """Whether the schema of a field declares a string, or a string or null."""
    kinds = [kind for branch in field.get("anyOf", [field]) for kind in _listed(branch.get("type"))]
    return "string" in kinds and set(kinds) <= {"string", "null"}


def _listed(kind: Any) -> list[Any]:
    return kind if isinstance(kind, list) else [kind]


class TaskUnit(Section):
    """The smallest capability that is assessed by itself."""

    name: Name
    kind: Literal["extraction", "decision", "rewrite", "tool_call"]
    instruction: str = ""
    """The student's system text; the teacher's own is in `teachers`."""
    output: Output = Output()
    supervise: Literal["answer", "process", "tools"] = "answer"
    """`answer`: the student learns the final answer; `process`: rationale, then the answer; `tools`: to call tools as the teacher
    did, turn by turn, and to answer from their results."""
    on_missing: Literal["abstain", "guess"] = "abstain"
    """`abstain`: a field that the input does not state must be null."""


class Specialist(Section):
    """The order for one small model."""

    goal: str
    non_goals: tuple[str, ...] = ()
    niche: Niche = Niche()
    task_units: tuple[TaskUnit, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def names_are_unique(self) -> "Specialist":
        names = [unit.name for unit in self.task_units]
        if len(set(names)) < len(names):
            raise ValueError(f"task_units: names must differ, found {names}")
        return self

    def unit(self, name: str) -> TaskUnit:
        """Return the task unit called `name`."""
        return next(unit for unit in self.task_units if unit.name == name)
