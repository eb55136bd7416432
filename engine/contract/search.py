"""A search for a student's keys: `rayleigh search CONTRACT RUN --space FILE` reads one from a file of its own."""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, JsonValue, Tag, ValidationError, model_validator

from engine.contract.base import Name, Positive, Section
from engine.contract.problems import causes, explained, odd_numbers
from engine.contract.students import Student

FIXED = ("name", "seed", "seeds", "keep_seeds", "init.vocabulary")
"""Keys that no search may change: what a student is called, what the retraining varies, and what changes the tokens of the run."""


class Choices(Section):
    """One of some values."""

    choices: tuple[JsonValue, ...] = Field(min_length=1)
    """The values, of any type: numbers, names, lists of layers, whole sections."""

    @model_validator(mode="after")
    def values_differ(self) -> "Choices":
        written = [json.dumps(value, sort_keys=True) for value in self.choices]
        if len(set(written)) < len(written):
            raise ValueError(f"choices: values must differ, found {', '.join(written)}")
        return self

    @property
    def limits(self) -> tuple[JsonValue, ...]:
        """Values that must be valid for all to be."""
        return self.choices


class Range(Section):
    """A number between two."""

    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"
    """`log` draws the logarithm evenly: for values over several powers of ten."""
    integer: bool = False
    """Whole numbers only."""

    @model_validator(mode="after")
    def low_is_below_high(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low: found {self.low:g}, expected less than high, which is {self.high:g}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"low: found {self.low:g}, expected more than 0 with scale log")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"low, high: found {self.low:g} and {self.high:g}, expected whole numbers with integer: true")
        return self

    @property
    def limits(self) -> tuple[JsonValue, ...]:
        """Values that must be valid for all to be."""
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)


def _kind(value: object) -> str:
    """Return the tag of a domain, so that an error names the keys of one kind only."""
    return "choices" if isinstance(value, Choices) or (isinstance(value, Mapping) and "choices" in value) else "range"


Domain = Annotated[Annotated[Choices, Tag("choices")] | Annotated[Range, Tag("range")], Discriminator(_kind)]


class Budget(Section):
    """What a search may use; the first limit that is reached ends it. Trainings that are under way then are stopped."""

    trials: Positive = 20
    """Trainings that are begun."""
    seconds: float | None = Field(default=None, gt=0)
    """Wall time of all sessions together, the retraining of the winner left out."""
    target_tokens: Positive | None = None
    """Target tokens that all trials together learn."""


class EarlyKill(Section):
    """Stops trials that are behind (ASHA: Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020)."""

    grace: Positive = 1
    """Epochs before which no trial is stopped; the first comparison."""
    reduction: float = Field(default=3.0, gt=1)
    """At each comparison the best 1 / reduction of the trials go on; the next one is after `reduction` times as many epochs."""


class Search(Section):
    """Which keys of a student are varied, how, and for how long."""

    student: Name
    """Name of the student in the contract."""
    keys: dict[str, Domain] = Field(min_length=1)
    """Dotted key of the student, such as `learning_rate` or `init.prune.layers` -> its values."""
    budget: Budget = Budget()
    early_kill: EarlyKill | None = EarlyKill()
    """Null lets every trial end by itself."""
    at_once: Positive | None = None
    """Trials at the same time; null: as many as the machine has cores for, or 8 on a cluster."""
    seeds: Positive = 3
    """Trainings of the winner with different seeds, at the end."""
    seed: int = Field(default=0, ge=0)
    """Seed of the sampler."""

    @model_validator(mode="after")
    def keys_may_be_searched(self) -> "Search":
        for key in self.keys:
            if any(key == fixed or key.startswith(f"{fixed}.") for fixed in FIXED):
                raise ValueError(f"keys.{key}: cannot be searched; none of {', '.join(FIXED)} can")
        return self


def variant(student: Student, values: Mapping[str, JsonValue]) -> Student:
    """Return `student` with `values` (dotted key -> value).

    Raises:
        ValueError: there is no such key, or the student may not have this value, alone or with the others; the message names it.
    """
    raw = student.model_dump(mode="json")
    for key, value in values.items():
        *parents, last = key.split(".")
        node: JsonValue = raw
        for parent in parents:
            inner = node.get(parent) if isinstance(node, dict) else None
            if inner is None and isinstance(node, dict):
                inner = node[parent] = {}
            node = inner
        if not isinstance(node, dict):
            raise ValueError(f"{key}: leads through a value that is no section")
        node[last] = copy.deepcopy(value)
    try:
        found = Student.model_validate(raw)
    except ValidationError as error:
        raise ValueError("; ".join(_explained(error))) from None
    if problems := [problem.rstrip(".") for problem in odd_numbers(found, raw)]:
        raise ValueError("; ".join(problems))
    return found


def _explained(error: ValidationError) -> Iterator[str]:
    for problem in causes(error):
        place = ".".join(str(part) for part in problem["loc"]) or "student"
        if problem["type"] == "extra_forbidden":
            yield f"{place}: a student has no such key"
        else:
            yield f"{place}: {explained(problem).rstrip('.')}"


def limits(search: Search) -> Iterator[tuple[str, JsonValue]]:
    """Yield each key with each of its values that must be valid: all choices, and both ends of a range."""
    for key, domain in search.keys.items():
        yield from ((key, value) for value in domain.limits)
