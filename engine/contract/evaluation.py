"""Sections `evaluation` (how models are measured on the holdout) and `gate` (what a student must reach to be promoted)."""

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.contract.base import Name, Positive, Section, Share, added, distinct
from engine.contract.checks import Check


def _is_none(value: object) -> bool:
    """Return whether a key is left out of dumps, so that recipes that were hashed before it existed keep their hashes."""
    return value is None


class Rules(Section):
    """Baseline of regular expressions per field; the value is the first group of the first match, or the whole match."""

    type: Literal["rules"]
    name: Name = "rules"
    fields: dict[str, tuple[str, ...]]
    """Field -> patterns, tried in order; a field without a match is null. Usually `!include rules.yaml`."""

    @model_validator(mode="after")
    def patterns_compile(self) -> "Rules":
        for field, patterns in self.fields.items():
            for pattern in patterns:
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ValueError(f"fields.{field}: {pattern!r} is not a regular expression: {error}") from None
        return self


class Nearest(Section):
    """Baseline that returns the answer of the training example with the highest TF-IDF cosine."""

    type: Literal["nearest"]
    name: Name = "nearest"


Baseline = Annotated[Rules | Nearest, Field(discriminator="type")]


class Evaluation(Section):
    """How teacher, students, champion and baselines are evaluated on the holdout."""

    baselines: tuple[Baseline, ...] = ()
    """Models without weights that are evaluated like the others; `gate.beats` refers to them by name."""
    checks: Annotated[tuple[Check, ...], distinct("title", hint="; give one of them a `name`")] = ()
    """Checks that run on every answer; the report shows the share that passes. The gate does not read them."""
    slices: tuple[Literal["task_unit", "layer", "difficulty", "scenario", "seen"], ...] = ("layer", "difficulty", "seen")
    """Dimensions by which exact match is broken down."""
    bootstrap: Positive = 1000
    """Bootstrap resamples of each interval (Efron, Annals of Statistics 7, 1979)."""
    level: Share = 0.95
    """Confidence level of the intervals."""
    latency_prompts: Positive = 40
    """Holdout prompts, evenly spread, that are sent one at a time and timed; the rest is sent in batches."""
    seed: int = 0
    """Seed of the bootstrap."""
    worth: Share = added(0.01)
    """Exact match, as a share, below which a gain is not worth its cost: twice the data, a larger student or a better teacher that
    would bring less is not advised, and a bucket of examples that brings less adds nothing."""


class HurtBy(Section):
    """Refuses students that their objectives have made worse than plain supervised fine-tuning would have."""

    twins: dict[Name, Name] = Field(min_length=1)
    """Student -> a student of this contract that differs from it by its objectives alone: `sft: 1`."""
    at_most: Share = 0.02
    """Exact match on the holdout by which the student may be below its twin, on the same prompts."""


class Gate(Section):
    """Requirements for promotion; null = not required. The metric's point value is compared, not its interval."""

    retention: Share | None = None
    """Exact match over the teacher's: at least this."""
    retention_unseen: Share | None = None
    """The same on scenarios that never occur in training: at least this."""
    exact_match: Share | None = None
    """Share of answers equal to the reference: at least this."""
    schema_validity: Share | None = None
    """Share of answers that fit the JSON schema: at least this."""
    abstain_precision: Share | None = None
    """Of the fields left null, the share that the prompt does not state: at least this."""
    abstain_recall: Share | None = None
    """Of the fields that the prompt does not state, the share left null: at least this."""
    ece: Share | None = None
    """Expected calibration error: at most this."""
    p95_ms: float | None = Field(default=None, gt=0)
    """95th percentile of latency, milliseconds: at most this."""
    beats: tuple[str, ...] = ()
    """Baselines that a student must beat: the interval of the paired difference in exact match must lie above 0."""
    hurt_by: HurtBy | None = Field(default=None, exclude_if=_is_none)
    """Limit of what distillation or preferences may cost; null = none."""
