"""Room 3: what an answer is worth and where it goes."""

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from engine.contract.base import Name, Section, Share
from engine.contract.checks import Check
from engine.contract.models import Model
from engine.contract.pools import Pools
from engine.contract.signals import Signals


class MarkedShot(Section):
    """One worked example of the judge's prompt."""

    text: str
    answer: str
    reference: str = ""
    mark: str | dict[Name, str]
    """One mark, or for a rubric with dimensions a mark for each of them."""


class Dimension(Section):
    """One thing that an answer is marked for, by a question of its own."""

    name: Name
    question: str
    """Stands below the rubric's own question; the same places are filled in."""
    marks: tuple[str, ...] | None = Field(default=None, min_length=2)
    """Worst to best; by default the rubric's."""
    anchors: dict[str, str] = Field(default={})
    """Mark -> what an answer is like that deserves it; shown below the question, one a line."""
    weight: float = Field(default=1, gt=0)
    """Of its score in the rubric's."""


class Rubric(Section):
    """A model that reads prompt and answer and gives marks; scored by the probabilities of the marks' tokens."""

    name: Name
    model: Model
    system: str
    """What the judge is told."""
    question: str
    """The last turn; `{text}`, `{answer}` and `{reference}` are filled in. Without a reference the line with it is left out."""
    by_task_unit: dict[Name, str] = Field(default={})
    """Task unit -> a question in place of `question`."""
    marks: tuple[str, ...] = Field(default=("1", "2", "3", "4", "5"), min_length=2)
    """Worst to best; each must be one token of the judge."""
    dimensions: tuple[Dimension, ...] = ()
    """Without any, `question` itself asks for the mark."""
    weight: float = Field(default=1, gt=0)
    """Of its score in the judge's, where several rubrics mark."""
    shots: tuple[MarkedShot, ...] = ()
    """Worked examples, shown in order as earlier turns."""

    @model_validator(mode="after")
    def names_of_dimensions_differ(self) -> "Rubric":
        names = [one.name for one in self.dimensions]
        if len(set(names)) < len(names):
            raise ValueError(f"dimensions: names must differ, found {names}")
        return self

    @model_validator(mode="after")
    def anchors_and_shots_have_known_marks(self) -> "Rubric":
        for one in self.dimensions:
            if unknown := sorted(set(one.anchors) - set(one.marks or self.marks)):
                raise ValueError(f"dimensions: {one.name}: anchors of {unknown}, expected marks of {one.marks or self.marks}")
        wanted = {one.name: one.marks or self.marks for one in self.dimensions} or {"": self.marks}
        for number, shot in enumerate(self.shots):
            given = shot.mark if isinstance(shot.mark, dict) else {"": shot.mark}
            if set(given) != set(wanted) or any(given[name] not in marks for name, marks in wanted.items()):
                raise ValueError(f"shots.{number}.mark: found {shot.mark!r}, expected " + _expected(wanted))
        return self


def _expected(marks: dict[str, tuple[str, ...]]) -> str:
    return " and ".join(f"for {name} one of {list(those)}" if name else f"one of {list(those)}" for name, those in marks.items())


class PairShot(Section):
    """One worked example of comparing."""

    text: str
    first: str
    second: str
    reference: str = ""
    mark: str


class Ranking(Section):
    """Rivals are compared in pairs, each pair in both orders; more than two are ranked by Bradley and Terry (1952)."""

    rubric: Name | None = None
    """Whose model and system text compare; by default the first rubric's."""
    question: str
    """Asks which answer suits the student better; `{text}`, `{first}`, `{second}`, `{reference}` are filled in."""
    by_task_unit: dict[Name, str] = Field(default={})
    """Task unit -> a question in place of `question`."""
    marks: tuple[str, str, str] = ("A", "B", "C")
    """The first is better, the second is better, neither is; each must be one token of the judge."""
    shots: tuple[PairShot, ...] = ()
    most: int = Field(default=6, ge=2)
    """Answers of a prompt that are compared, the most confident first: n of them are n (n - 1) questions."""


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
    reference: str | None = None
    """The right answer: what a wrong one is compared with, and what `{reference}` stands for."""
    error: str | None = None
    """What kind of error was made: the report says how many of each kind the judge sees."""
    author: str = ""
    """The model that wrote the answer: whether the judge prefers its own family is measured by it."""
    task_unit: str = ""


class Floor(Section):
    """What the judge must reach on the labelled items, or its confidence is written down but decides nothing."""

    kappa: float | None = Field(default=None, ge=-1, le=1)
    auc: Share | None = None
    sensitivity: Share | None = None
    specificity: Share | None = None
    ece: Share | None = None
    """At most."""


class Calibrate(Section):
    """Labelled items that turn the rubric's score into a probability of being right."""

    gold: tuple[GoldItem, ...] = Field(min_length=8)
    """Usually `!include judge_gold.jsonl`."""
    method: Literal["platt", "isotonic"] = "platt"
    """`platt`: a logistic curve (Platt, 1999); `isotonic`: any rising steps, for some hundred items (Zadrozny and Elkan, 2002)."""
    folds: int = Field(default=5, ge=2)
    """What is said of the curve is measured on items that it was not fitted on, in so many turns."""
    floor: Floor = Floor()


class Limits(Section):
    """The largest bias that is let pass; null = it is measured only. Scores go from 0 to 1."""

    position: Share | None = 0.1
    """Of the preference for one place: 1 = always the first, or always the second."""
    length: Share | None = 0.1
    """Of the score that an answer gains by being said twice, or by being cut in half."""
    self_preference: Share | None = 0.1
    """Of the score that answers of the judge's own family gain over others with the same label."""
    paraphrase: Share | None = 0.2
    """Of the mean distance that other words for the question move a score."""
    batches: Share | None = 0.2
    """Of the distance of a batch's mean score from that of the others."""
    runs: Share | None = 0.1
    """Of the distance of the mean score from that of the last run with this judge."""


class Audit(Section):
    """Whether the judge looks at what it should not. Asks it about the labelled items in other shapes."""

    limits: Limits = Limits()
    items: int = Field(default=40, ge=8)
    """Labelled items that are shown in other shapes, at most."""
    wordings: tuple[str, ...] = ("Please read this with care.\n\n{question}",)
    """Other words for a question; `{question}` stands for the one of the rubric."""
    rules: Share = 0.1
    """Share of the answers that failed a check which the judge is shown too, to see whether it agrees with the rules."""


class Judges(Section):
    """Checks first, then the rubrics."""

    checks: tuple[Check, ...] = ()
    rubrics: tuple[Rubric, ...] = ()
    """Several are a panel: the score is the weighted mean of theirs (Verga et al., 2024)."""
    ranking: Ranking | None = None
    """How rivals are compared in mode `competition`; by default by their confidence."""
    accept: Accept = Accept()
    calibrate: Calibrate | None = None
    signals: Signals | None = None
    """What is measured of the answers, to pick by."""
    audit: Audit | None = None
    """Needs labelled items in `calibrate`."""
    pools: Pools = Pools()

    @model_validator(mode="after")
    def names_of_rubrics_differ(self) -> "Judges":
        names = [one.name for one in self.rubrics]
        if len(set(names)) < len(names):
            raise ValueError(f"rubrics: names must differ, found {names}")
        if self.ranking and (self.ranking.rubric or (names or [None])[0]) not in names:
            raise ValueError(f"ranking.rubric: found {self.ranking.rubric!r}, expected one of rubrics {names}")
        return self

    @model_validator(mode="after")
    def audit_has_labelled_items(self) -> "Judges":
        if self.audit and not self.calibrate:
            raise ValueError("audit: needs labelled items; add calibrate.gold")
        return self

    @property
    def ranker(self) -> Rubric | None:
        """The rubric whose model compares rivals; None where they are not compared."""
        wanted = self.ranking and (self.ranking.rubric or self.rubrics[0].name)
        return next((one for one in self.rubrics if one.name == wanted), None)
