"""Room 2: who answers the prompts."""

from typing import Literal

from pydantic import Field, model_validator

from engine.contract.base import Name, Section
from engine.contract.models import Model, Sampling


class Shot(Section):
    """One worked example of the teacher's prompt."""

    input: str
    output: str


class Teacher(Section):
    """One model with its instruction, worked examples and sampling."""

    name: Name
    model: Model
    system: str = ""
    shots: tuple[Shot, ...] = ()
    """Shown in order before each prompt, as earlier turns; usually `!include shots.jsonl`."""
    sampling: Sampling = Sampling()
    structured: bool = True
    """Constrain decoding to the task unit's JSON schema, where it has one."""


class Teachers(Section):
    """Teachers and how they work together."""

    mode: Literal["direct", "judged"] = "judged"
    """`direct`: the checks alone decide; `judged`: a rubric model has a say too."""
    models: tuple[Teacher, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def names_are_unique(self) -> "Teachers":
        names = [teacher.name for teacher in self.models]
        if len(set(names)) < len(names):
            raise ValueError(f"models: names must differ, found {names}")
        return self

    def named(self, name: str) -> Teacher:
        """Return the teacher called `name`."""
        return next(teacher for teacher in self.models if teacher.name == name)
