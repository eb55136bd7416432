"""Room 2: which prompt goes to which teachers."""

from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from engine.contract.base import Name, Section, Share

T = TypeVar("T")
OneOf = Annotated[tuple[T, ...], BeforeValidator(lambda found: (found,) if isinstance(found, str) else found)]
"""One value or a list; an empty one admits all."""


class When(Section):
    """Which prompts a rule is for: all that is named must hold. Without any condition it is for all that are left."""

    task_unit: OneOf[Name] = ()
    layer: OneOf[Literal["core", "failure_mode", "long_tail"]] = ()
    language: OneOf[str] = ()
    difficulty: OneOf[Literal["easy", "medium", "hard"]] = ()
    scenario: OneOf[str] = ()

    @property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        """Column -> the values that it may have."""
        return {name: values for name in type(self).model_fields if (values := getattr(self, name))}


class Labelled(Section):
    """A prompt of which somebody knows who should answer it."""

    input: str
    to: OneOf[Name] = Field(min_length=1)


class Nearest(Section):
    """Goes where the labelled prompt goes that means most nearly the same."""

    bank: tuple[Labelled, ...] = Field(min_length=1)
    """Usually `!include labelled.jsonl`."""
    model: str = "all-minilm-l6-v2"
    """A sentence-transformers folder, or the name of one that a package carries."""
    least: Share = 0.0
    """A prompt less like every labelled one than this (cosine) is left to the next rule."""


class Route(Section):
    """One rule of the router: conditions and who answers, or the nearest labelled prompt."""

    when: When | None = None
    to: OneOf[Name] = ()
    nearest: Nearest | None = None

    @model_validator(mode="after")
    def is_one_of_both(self) -> "Route":
        if (self.when is None) == (self.nearest is None) or bool(self.to) != bool(self.when):
            raise ValueError(f"found {sorted(self.model_fields_set)}, expected either `when` and `to`, or `nearest`")
        return self

    @property
    def reaches(self) -> set[str]:
        """Teachers that this rule can choose."""
        return {name for to in (self.to, *(one.to for one in (self.nearest.bank if self.nearest else ()))) for name in to}
