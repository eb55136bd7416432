"""Deterministic verifiers, chosen by `type`. `engine/checks` holds one function per type."""

from typing import Annotated, Literal

from pydantic import Field

from engine.contract.base import Section


class JsonSchema(Section):
    """The answer parses as JSON and fits the task unit's schema."""

    type: Literal["json_schema"]


class Grounded(Section):
    """Every value of the answer's JSON fields occurs in the prompt."""

    type: Literal["grounded"]
    fields: Literal["all"] | tuple[str, ...] = "all"


class Choice(Section):
    """The answer, or a field of it, is one of `of`."""

    type: Literal["choice"]
    of: tuple[str, ...] = Field(min_length=1)
    field: str | None = None


class Regex(Section):
    """The answer, or a field of it, matches `pattern` as a whole; null passes."""

    type: Literal["regex"]
    pattern: str
    field: str | None = None


class Numeric(Section):
    """The answer, or a field of it, is a number in [low, high]; null passes."""

    type: Literal["numeric"]
    low: float | None = None
    high: float | None = None
    field: str | None = None


class Tools(Section):
    """A call of a tool succeeded, and what the answer states stands in the last result."""

    type: Literal["tools"]


Check = Annotated[JsonSchema | Grounded | Choice | Regex | Numeric | Tools, Field(discriminator="type")]
