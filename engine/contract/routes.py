"""The section `teachers.routes`: rules that route prompts to teachers."""

from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from engine.contract.base import Name, Section, Share

T = TypeVar("T")
OneOf = Annotated[tuple[T, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
"""One value or a list; an empty one admits all."""


class When(Section):
    """Conditions of a rule: all that are given must hold. Without any, the rule matches every prompt."""

    task_unit: OneOf[Name] = ()
    layer: OneOf[Literal["core", "failure_mode", "long_tail"]] = ()
    language: OneOf[str] = ()
    difficulty: OneOf[Literal["easy", "medium", "hard"]] = ()
    scenario: OneOf[str] = ()

    @property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        """Column -> the values that it may have."""
        return {name: values for name in type(self).model_fields if (values := getattr(self, name))}


class LabelledPrompt(Section):
    """A prompt whose teachers are known."""

    input: str
    to: OneOf[Name] = Field(min_length=1)


class Nearest(Section):
    """Routes a prompt like the labelled prompt with the most similar embedding."""

    bank: tuple[LabelledPrompt, ...] = Field(min_length=1)
    """Usually `!include labelled.jsonl`."""
    model: str = "all-minilm-l6-v2"
    """A sentence-transformers folder, or its URL, or the name of one that a package carries."""
    min_cosine: Share = 0.0
    """A prompt with a lower cosine similarity to every labelled prompt is left to the next rule."""


class Route(Section):
    """One rule: conditions with their teachers, or the nearest labelled prompt."""

    when: When | None = None
    to: OneOf[Name] = ()
    nearest: Nearest | None = None

    @model_validator(mode="after")
    def has_when_or_nearest(self) -> "Route":
        if (self.when is None) == (self.nearest is None) or bool(self.to) != bool(self.when):
            raise ValueError(f"found {sorted(self.model_fields_set)}, expected either `when` and `to`, or `nearest`")
        return self

    @property
    def reaches(self) -> set[str]:
        """Teachers that this rule can route to."""
        return {name for to in (self.to, *(labelled.to for labelled in (self.nearest.bank if self.nearest else ()))) for name in to}
