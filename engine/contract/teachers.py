"""Room 2: who answers the prompts."""

from typing import Literal

from pydantic import Field, model_validator

from engine.contract.base import Name, Section
from engine.contract.models import Model, Sampling


class Shot(Section):
    """One worked example of the teacher's prompt."""

    input: str
    output: str


class Shots(Section):
    """Worked examples, given as earlier turns."""

    fixed: tuple[Shot, ...] = ()
    """The same for every prompt, in order; usually `!include shots.jsonl`. They stay in the engine's prefix cache."""
    bank: tuple[Shot, ...] = ()
    """Examples to choose from."""
    nearest: int = Field(default=0, ge=0)
    """How many of the bank are added to each prompt: those that are asked most like it."""

    @property
    def count(self) -> int:
        """Examples that stand before each prompt."""
        return len(self.fixed) + self.nearest

    @model_validator(mode="after")
    def nearest_has_a_bank(self) -> "Shots":
        if self.nearest > len(self.bank):
            raise ValueError(f"nearest: found {self.nearest}, the bank has {len(self.bank)} examples")
        return self


class Teacher(Section):
    """One model with its instruction, worked examples and sampling."""

    name: Name
    model: Model
    system: str = ""
    shots: Shots = Shots()
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
