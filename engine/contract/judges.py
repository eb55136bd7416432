"""Room 3: what an answer is worth and where it goes."""

from pydantic import Field

from engine.contract.base import Name, Section, Share
from engine.contract.checks import Check
from engine.contract.models import Model


class Rubric(Section):
    """A model that reads prompt and answer and gives marks; scored by the probabilities of the marks' tokens."""

    name: Name
    model: Model
    system: str
    """What the judge is told."""
    question: str
    """The last turn; `{text}` and `{answer}` are filled in."""
    marks: tuple[str, ...] = Field(default=("1", "2", "3", "4", "5"), min_length=2)
    """Worst to best; each must be one token of the judge."""
    shots: tuple[dict[str, str], ...] = ()
    """Worked examples: text, answer, mark."""


class Accept(Section):
    """From where on an answer is taken for right."""

    confidence: Share = 0.5
    """At or above: accepted."""
    review_below: Share = 0.0
    """Below: a person should look at it (`review`)."""
    agreement: Share = 0.5
    """At or above this share of equal samples; below, the prompt is `hard`."""


class Calibrate(Section):
    """Labelled items that turn the rubric's score into a probability of being right (Platt, 1999)."""

    gold: tuple[dict[str, object], ...] = Field(min_length=8)
    """Items with input, answer and right (true or false); usually `!include gold.jsonl`."""


class Judges(Section):
    """Checks first, then the rubric."""

    checks: tuple[Check, ...] = ()
    rubric: Rubric | None = None
    accept: Accept = Accept()
    calibrate: Calibrate | None = None
