"""The section `teachers`: the models that answer the prompts."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.contract.base import Positive, Section, distinct
from engine.contract.budget import TeacherName
from engine.contract.models import LabelsModel, Sampling, TeacherModel, TrainedModel
from engine.contract.routes import Route
from engine.contract.tools import Tool


class Shot(Section):
    """One worked example of the teacher's prompt."""

    input: str
    output: str


class Shots(Section):
    """Worked examples, sent as earlier turns of the chat."""

    fixed: tuple[Shot, ...] = ()
    """The same for every prompt, in order; usually `!include shots.jsonl`. They stay in the engine's prefix cache."""
    bank: tuple[Shot, ...] = ()
    """Examples to choose from."""
    nearest: int = Field(default=0, ge=0)
    """Number of examples of the bank that are added to each prompt: those whose inputs are most similar to it."""

    @property
    def count(self) -> int:
        """Number of examples in front of each prompt."""
        return len(self.fixed) + self.nearest

    @model_validator(mode="after")
    def nearest_has_a_bank(self) -> "Shots":
        if self.nearest > len(self.bank):
            raise ValueError(f"nearest: found {self.nearest}, the bank has {len(self.bank)} examples")
        return self


class Thinks(Section):
    """Tags around the reasoning of a model. The text between them is kept as `reasoning` and is not part of the answer."""

    open: str = "<think>"
    """Opening tag; empty if the chat template of the model already writes it."""
    close: str = Field(default="</think>", min_length=1)
    """Closing tag."""


class Teacher(Section):
    """One model with its instruction, worked examples and sampling."""

    name: TeacherName
    model: TeacherModel
    system: str = ""
    shots: Shots = Shots()
    sampling: Sampling = Sampling()
    structured: bool = True
    """Constrain decoding to the task unit's JSON schema, where it has one."""
    thinks: Thinks | None = None
    """For a model that writes its reasoning; `{}` takes the usual tags. Not needed for a server that returns the answer alone."""

    @model_validator(mode="after")
    def thinks_freely(self) -> "Teacher":
        if self.thinks and self.structured:
            raise ValueError("thinks: structured decoding allows no reasoning; write structured: false")
        return self

    @property
    def answers(self) -> bool:
        """Whether a model answers: its tokens count, and it is evaluated. References are there without one."""
        return not isinstance(self.model, LabelsModel)

    @model_validator(mode="after")
    def prompt_is_not_given_twice(self) -> "Teacher":
        """Labels are asked nothing, and a trained model has the prompt that it was trained with."""
        if not isinstance(self.model, LabelsModel | TrainedModel):
            return self
        keys = ["system", "shots", "thinks"]
        longest = Sampling(max_tokens=self.sampling.max_tokens)
        if not self.answers and self.sampling != longest:
            keys.append("sampling")
        fields = type(self).model_fields
        if given := [key for key in keys if getattr(self, key) != fields[key].get_default()]:
            why = "it is prompted as it was trained" if self.answers else "no model is asked; of sampling it takes max_tokens alone"
            raise ValueError(f"{', '.join(given)}: not used with model {self.model.type}, as {why}; take them out")
        return self


Mode = Literal["direct", "judged", "competition", "experts", "tools"]


class Teachers(Section):
    """Teachers and how they work together."""

    mode: Mode = "judged"
    """`direct`: only the checks decide; `judged`: rubrics decide, too; `competition`: all teachers answer, and of the accepted
    answers to a prompt the winner of the comparisons is kept (`judges.ranking`); `experts`: `routes` choose the teachers of each
    prompt; `tools`: the teachers may call `tools` before they answer."""
    models: Annotated[tuple[Teacher, ...], distinct()] = Field(min_length=1)
    routes: tuple[Route, ...] | None = None
    """For `experts`: the first rule that matches a prompt decides. A prompt that no rule matches goes to the pool `review`."""
    tools: Annotated[tuple[Tool, ...], distinct(hint="; give one a `name`")] = ()
    """Tools for teachers in mode `tools`, and for students whose task unit supervises `tools`."""
    max_calls: Positive = 4
    """Calls before an answer, failed ones included. `sampling.max_tokens` limits each turn."""

    @model_validator(mode="after")
    def competition_has_competitors(self) -> "Teachers":
        if self.mode == "competition" and len(self.models) < 2:
            raise ValueError("models: found 1 teacher, mode competition needs two or more; add one, or use mode judged")
        return self

    @model_validator(mode="after")
    def routes_fit_the_experts(self) -> "Teachers":
        if self.mode != "experts":
            if self.routes is not None:
                raise ValueError(f"routes: only mode experts has a router, found mode {self.mode}; drop them, or use mode experts")
            return self
        if not self.routes:
            raise ValueError("routes: mode experts needs at least one rule: {when: {...}, to: [NAME]} or {nearest: {bank: ...}}")
        _reach(self.routes, [teacher.name for teacher in self.models])
        return self

    @model_validator(mode="after")
    def tools_go_with_their_mode(self) -> "Teachers":
        names = [tool.name for tool in self.tools]
        if self.mode == "tools" and not names:
            raise ValueError("tools: mode tools needs at least one, such as {type: calculator}; add it or use another mode")
        if self.mode != "tools" and names:
            raise ValueError(f"tools: found {names}, which mode {self.mode} never calls; use mode tools or take them out")
        return self

    def named(self, name: str) -> Teacher:
        """Return the teacher called `name`."""
        return next(teacher for teacher in self.models if teacher.name == name)


def _reach(routes: Sequence[Route], names: list[str]) -> None:
    """Raise ValueError if a route names an unknown teacher, or no route leads to a teacher."""
    for number, route in enumerate(routes):
        if unknown := sorted(route.reaches - set(names)):
            raise ValueError(f"routes.{number}: found {unknown}, expected teachers of models: {names}")
    if unreached := sorted(set(names).difference(*(route.reaches for route in routes))):
        raise ValueError(f"routes: no rule leads to {unreached}; send prompts to them, or drop them from models")
