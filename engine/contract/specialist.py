"""The task: what the specialist does, where it runs, and which form its answers have."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from engine.contract.answer_schema import schema_problems
from engine.contract.base import JsonSchema, Name, Positive, Section, Share, added, distinct

MOST_PROBLEMS = 8  # of one schema that a message names


class Latency(Section):
    """Latency of one request."""

    p95_ms: float | None = Field(default=None, gt=0)
    """95th percentile, in milliseconds, at most."""


class Niche(Section):
    """Where the specialist is used."""

    languages: tuple[str, ...] = ("en",)
    """Language codes of the requests."""
    data_class: Literal["public", "internal", "confidential"] = "internal"
    """How confidential the requests are."""
    hardware: str = "cpu-2"
    """What it runs on, in words."""
    latency: Latency = Latency()
    answer_above: Share = 0.0
    """Least confidence of a student's answer; requests below it fall back to the teacher, whose cost counts."""
    traffic: Positive | None = added(None)
    """Requests a month that it will get; null = not known. Turns the break-even of the run, in requests, into months."""


class Output(Section):
    """The form of an answer."""

    json_schema: JsonSchema | None = None
    """JSON schema of the answer, usually `!include schema.json`; null means free text. What a decoder cannot hold exactly is left
    to the check `json_schema`; `rayleigh check` lists it."""
    spans: dict[str, Positive] = Field(default_factory=dict)
    """Field -> most words of its value, for fields whose value is quoted from the prompt: decoding is limited to spans of the
    prompt."""

    @field_validator("json_schema")
    @classmethod
    def an_answer_can_fit_the_schema(cls, schema: JsonSchema | None) -> JsonSchema | None:
        if found := schema_problems(schema) if schema is not None else []:
            more = f"\n    and {len(found) - MOST_PROBLEMS} more" if len(found) > MOST_PROBLEMS else ""
            raise ValueError("\n    ".join(found[:MOST_PROBLEMS]) + more)
        return schema

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
    """Return whether the schema of a field declares a string, or a string or null."""
    types = [branch.get("type") for branch in field.get("anyOf", [field])]
    kinds = [kind for each in types for kind in (each if isinstance(each, list) else [each])]
    return "string" in kinds and set(kinds) <= {"string", "null"}


class TaskUnit(Section):
    """One capability, the smallest that is evaluated separately."""

    name: Name
    kind: Literal["extraction", "decision", "rewrite", "tool_call"]
    """What kind of task it is; reports show it."""
    instruction: str = ""
    """System text of the student; the teachers have their own in `teachers`."""
    output: Output = Output()
    lenient_json: bool = False
    """Whether an answer may have text before its JSON, such as "Here it is:". The text is kept as reasoning; checks and students
    see the JSON alone. A fence around the whole answer is no part of it, with or without this."""
    supervise: Literal["answer", "process", "tools"] = "answer"
    """What the student learns. `answer`: the final answer; `process`: the rationale, then the answer; `tools`: to call tools turn
    by turn as the teacher did, and to answer from their results."""
    on_missing: Literal["abstain", "guess"] = "abstain"
    """What to do with a field that the input does not state; `abstain`: it must be null."""


class Specialist(Section):
    """The task of one small model."""

    goal: str
    """What it does, in a sentence."""
    non_goals: tuple[str, ...] = ()
    """What it does not do."""
    niche: Niche = Niche()
    task_units: Annotated[tuple[TaskUnit, ...], distinct()] = Field(min_length=1)

    def unit(self, name: str) -> TaskUnit:
        """Return the task unit called `name`."""
        return next(unit for unit in self.task_units if unit.name == name)
