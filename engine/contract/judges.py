"""Room 3: what an answer is worth and where it goes."""

from typing import Literal

from pydantic import ConfigDict, Field

from engine.contract.base import Name, Section, Share
from engine.contract.checks import Check
from engine.contract.models import Model
from engine.contract.pools import Pools


class MarkedShot(Section):
    """One worked example of the judge's prompt."""

    text: str
    answer: str
    mark: str


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
    shots: tuple[MarkedShot, ...] = ()
    """Worked examples, shown in order as earlier turns."""


class Accept(Section):
    """From where on an answer is taken for right."""

    confidence: Share = 0.5
    """Below, a person should look at it (`review`)."""
    agreement: Share = 0.5
    """At or above this share of equal samples; below, the prompt is `hard`."""


class GoldItem(Section):
    """One labelled answer."""

    model_config = ConfigDict(extra="ignore")  # a labelled file may say more than the judge reads

    input: str
    answer: str
    label: Literal["right", "wrong"]


class Calibrate(Section):
    """Labelled items that turn the rubric's score into a probability of being right (Platt, 1999)."""

    gold: tuple[GoldItem, ...] = Field(min_length=8)
    """Usually `!include judge_gold.jsonl`."""


class Judges(Section):
    """Checks first, then the rubric."""

    checks: tuple[Check, ...] = ()
    rubric: Rubric | None = None
    accept: Accept = Accept()
    calibrate: Calibrate | None = None
    pools: Pools = Pools()
