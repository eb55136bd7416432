"""The section `serving`: what a served answer goes through. Nothing that is trained or evaluated depends on it."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator, model_validator

from engine.contract.base import Name, Positive, Section, Share, distinct

if TYPE_CHECKING:
    from engine.contract.contract import Contract

Risk = Annotated[float, Field(gt=0, lt=1)]
"""A probability, 0 and 1 excluded."""
Deployment = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}(\.[a-z0-9][a-z0-9_-]{0,39})?$")]
"""A student (`s`), its export (`s.q8_0`), a teacher, or `champion`."""
CHAMPION, PERSON = "champion", "person"


class Stage(Section):
    """One place that a request may come to."""

    to: Deployment
    """Who is asked: a student, an export (`s.q8_0`), the `champion`, a teacher, or `person`: a queue of requests for people."""
    threshold: Share | None = None
    """Least confidence of an answer that is given; null = the certified one for all stages but the last, none for the last."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Seconds after which the stage has failed, and the request goes on."""


class Rule(Section):
    """A regular expression about a request's text (Python syntax, searched anywhere)."""

    name: Name
    """Shown as the reason."""
    pattern: str
    inside: bool = False
    """false: a request that matches is outside the niche; true: a request that does not match is."""

    @field_validator("pattern")
    @classmethod
    def pattern_compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return pattern


class NicheCheck(Section):
    """What is outside the niche, so that no student answers it. The training prompts say what is inside."""

    languages: bool = True
    """Whether a request that is surely in a language other than those of `specialist.niche.languages` is outside."""
    longest: float | None = Field(default=1.5, gt=0)
    """Requests of more characters than this many times the longest training prompt are outside; null = any length."""
    false_alarms: Share = 0.01
    """Share of requests like those of the niche that the embedding distance may call outside; 0 = the distance is not used."""
    non_goals: bool = True
    """Whether a request nearer in meaning to a sentence of `specialist.non_goals` than to every training prompt is outside."""
    neighbours: Positive = 3
    """Nearest training prompts whose mean distance counts."""
    rules: Annotated[tuple[Rule, ...], distinct()] = ()
    outside: Literal["abstain", "hand_on"] = "abstain"
    """What happens to a request outside: an answer that says so, or the first stage after the students."""


class Cascade(Section):
    """Who is asked, in which order, and from which confidence on an answer is given."""

    alpha: Risk = 0.1
    """Share of wrong answers among those of a student, at most (selective risk)."""
    delta: Risk = 0.1
    """Probability, at most, that the certified threshold does not keep `alpha`; over all stages together."""
    starts: Positive = 3
    """Places in the order of thresholds at which testing starts. They share `delta`, most of which is where the confidences
    themselves say that a threshold is proven most clearly; the others are for confidences that say nothing."""
    method: Literal["rows", "effective", "thinned"] | None = None
    """How clusters of the holdout enter: `rows` ignores them, `effective` counts them by a design effect (approximate), `thinned`
    takes one row of each (exact). null = `effective` where there are clusters, else `rows`."""
    stages: Annotated[tuple[Stage, ...], distinct("to", hint="; each stage is asked once")] = Field(default=(), max_length=8)
    """In the order in which they are asked; empty = the champion, then the first teacher."""
    unsure: Literal["abstain", "error"] = "abstain"
    """How a request ends of which no stage was sure: an abstention, or an error. A request of which a stage failed, and that no
    later stage answered, is always an error: an answer below its threshold is never given instead."""
    niche: NicheCheck = NicheCheck()

    @model_validator(mode="after")
    def person_is_last(self) -> "Cascade":
        names = [stage.to for stage in self.stages]
        if PERSON in names[:-1]:
            raise ValueError(f"stages: found {names}, expected `{PERSON}` last: nobody waits for a person to ask further")
        return self


class Shadow(Section):
    """A second deployment that gets a sample of the requests; its answers are compared, never given."""

    challenger: Deployment | None = None
    """Who is compared; null = the teacher is asked alone, for the champion's traffic."""
    reference: Deployment | None = None
    """Whose answer counts as right; null = the first teacher."""
    share: Share = 0.05
    """Share of requests, by a hash of their id."""
    floor: Risk = 0.85
    """Share of answers that must agree with the reference: a challenger that is proven to be above is promoted."""
    margin: Share = 0.02
    """How much less than the champion's its agreement may be."""
    delta: Risk = 0.05
    """Probability, at most, of promoting a challenger below the floor, and of refusing one above it, however often one looks."""
    least: Positive = 30
    """Pairs before a decision."""


class Monitor(Section):
    """Sequential tests of whether the requests and answers are still those of the holdout."""

    delta: Risk = 0.05
    """Probability, at most, of any false alarm over the whole life of the stream, all signals together."""
    signals: tuple[Literal["agreement", "confidence", "abstention", "fallback", "nulls", "length", "embedding"], ...] = (
        "agreement", "confidence", "abstention", "fallback", "nulls", "length", "embedding",
    )  # fmt: skip
    """What is tested; `nulls` is one signal for each field of the answer."""
    sample: Share = 0.05
    """Share of requests that the teacher answers too, for `agreement`."""
    shift: Share = 0.1
    """Change of a rate that is looked for first; larger and smaller ones are found, too, later than they could be."""
    labels: Share = 0.02
    """Share of requests that a person is asked to label."""
    labels_disagreeing: Share = 0.5
    """The same among those where student and teacher disagree."""
    keep: Positive = 2000
    """Last rows whose ids are kept, for the alarm."""


class Serving(Section):
    """How a release is served. Every part is off while it is null."""

    cascade: Cascade | None = None
    """Thresholds and fallbacks; null = every answer of the champion is given."""
    shadow: Shadow | None = None
    """A challenger beside the champion."""
    monitor: Monitor | None = None
    """Tests of drift."""


def serving_problems(contract: "Contract") -> Iterator[str]:
    """Yield each model that the section names and that is no student, export or teacher of the contract."""
    serving = contract.serving
    if serving is None:
        return
    exports = [f"{student.name}.{export.name}" for student in contract.students for export in student.exports]
    teachers = [teacher.name for teacher in contract.teachers.models if teacher.answers]
    known = [CHAMPION, *(student.name for student in contract.students), *exports, *teachers]
    stages = serving.cascade.stages if serving.cascade else ()
    named = [(f"serving.cascade.stages.{number}.to", stage.to, [*known, PERSON]) for number, stage in enumerate(stages)]
    shadow = serving.shadow
    named += [("serving.shadow.challenger", shadow.challenger, known)] if shadow and shadow.challenger else []
    named += [("serving.shadow.reference", shadow.reference, known)] if shadow and shadow.reference else []
    for path, name, expected in named:
        if name not in expected:
            yield f"{path}: found {name!r}, expected one of {expected}"
