"""Room 6: how good, fast and cheap each model is on the holdout; and the gate of room 7."""

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.contract.base import Name, Positive, Section, Share
from engine.contract.checks import Check


class Rules(Section):
    """A hand-written extractor: regular expressions per field; the first that matches gives its first group, or all it matched."""

    type: Literal["rules"]
    name: Name = "rules"
    fields: dict[str, tuple[str, ...]]
    """Field -> patterns tried in order; no match means null. Usually `!include rules.yaml`."""

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
    """The answer of the training example whose words are nearest (TF-IDF, cosine)."""

    type: Literal["nearest"]
    name: Name = "nearest"


Baseline = Annotated[Rules | Nearest, Field(discriminator="type")]


class Evaluation(Section):
    """Teacher, students, champion and baselines on the same holdout."""

    baselines: tuple[Baseline, ...] = ()
    checks: tuple[Check, ...] = ()
    """Run over every answer; the share that passes stands in the report, beside exact match. They decide nothing."""
    slices: tuple[Literal["task_unit", "layer", "difficulty", "scenario", "seen"], ...] = ("layer", "difficulty", "seen")
    bootstrap: Positive = 1000
    """Resamples behind each interval (Efron, 1979)."""
    level: Share = 0.95
    latency_prompts: Positive = 40
    """Holdout prompts that are asked one by one and timed, spread evenly; the rest is asked in batches."""
    seed: int = 0

    @model_validator(mode="after")
    def checks_are_told_apart(self) -> "Evaluation":
        titles = [check.title for check in self.checks]
        if len(set(titles)) < len(titles):
            raise ValueError(f"checks: names must differ, found {titles}; give one of them a `name`")
        return self


class Gate(Section):
    """What a student must reach to be promoted; null = not asked. Each is read as the metric's point value."""

    retention: Share | None = None
    """Exact match over the teacher's, at least."""
    retention_unseen: Share | None = None
    """The same on holdout scenarios that never occur in training."""
    exact_match: Share | None = None
    schema_validity: Share | None = None
    abstain_precision: Share | None = None
    abstain_recall: Share | None = None
    ece: Share | None = None
    """Expected calibration error, at most."""
    p95_ms: float | None = Field(default=None, gt=0)
    """95th percentile of latency, at most, in milliseconds."""
    beats: tuple[str, ...] = ()
    """Baselines that a student must beat in exact match with the interval of the paired difference above 0."""
