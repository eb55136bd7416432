"""Room 2: who answers the prompts."""

from typing import Literal

from pydantic import Field, model_validator

from engine.contract.base import Name, Positive, Section
from engine.contract.models import Model, Sampling
from engine.contract.tools import Tool


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

    mode: Literal["direct", "judged", "tools"] = "judged"
    """`direct`: the checks alone decide; `judged`: a rubric model has a say too; `tools`: it may call `tools` first."""
    models: tuple[Teacher, ...] = Field(min_length=1)
    tools: tuple[Tool, ...] = ()
    """What the teachers may call in mode `tools`, and the students whose task unit supervises `tools`."""
    max_calls: Positive = 4
    """Calls before an answer, failed ones counted. `sampling.max_tokens` is for each turn."""

    @model_validator(mode="after")
    def names_are_unique(self) -> "Teachers":
        names = [teacher.name for teacher in self.models]
        if len(set(names)) < len(names):
            raise ValueError(f"models: names must differ, found {names}")
        return self

    @model_validator(mode="after")
    def tools_go_with_their_mode(self) -> "Teachers":
        names = [tool.name for tool in self.tools]
        if self.mode == "tools" and not names:
            raise ValueError("tools: mode tools needs at least one, such as {type: calculator}; add it or use another mode")
        if self.mode != "tools" and names:
            raise ValueError(f"tools: found {names}, which mode {self.mode} never calls; use mode tools or take them out")
        if len(set(names)) < len(names):
            raise ValueError(f"tools: names must differ, found {names}; give one a `name`")
        return self

    def named(self, name: str) -> Teacher:
        """Return the teacher called `name`."""
        return next(teacher for teacher in self.models if teacher.name == name)
