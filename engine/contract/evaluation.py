"""Section `evaluation`: how models are measured on the holdout."""

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.contract.base import Name, Positive, Section, Share, added, distinct
from engine.contract.checks import Check

Cluster = Literal["scenario", "parent", "task_unit", "source", "language", "layer", "difficulty", "none"]
"""What rows of the holdout have in common that makes them dependent; `parent` is the prompt from which they were synthesized."""


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
    cluster: Cluster = Field(default="scenario", exclude_if=lambda cluster: cluster == "scenario")
    """Column of the holdout whose equal values make prompts dependent (mails of one phrasing). Every interval and every test of the
    gate draws whole clusters; an empty value is a cluster by itself. Any column of your file can be it: map it as `scenario` in
    prompts.holdout.columns. `none`: every prompt is independent of the others."""
    worth: Share = added(0.01)
    """Exact match, as a share, below which a gain is not worth its cost: twice the data, a larger student or a better teacher that
    would bring less is not advised, and a bucket of examples that brings less adds nothing."""
