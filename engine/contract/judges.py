"""The section `judges`: how answers are graded, how the judge is calibrated, and which pool an answer goes to."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from engine.contract.base import Name, Section, Share, added, distinct
from engine.contract.budget import RubricName
from engine.contract.checks import Check, Code, Mathematics, Sql
from engine.contract.evidence import Evidence
from engine.contract.models import Model
from engine.contract.pools import Pools
from engine.contract.signals import Signals


class RatedShot(Section):
    """One worked example of a rubric's prompt."""

    text: str
    answer: str
    reference: str = ""
    rating: str | dict[Name, str]
    """One value of the scale, or for a rubric with dimensions one value for each of them."""


class Dimension(Section):
    """One quality that an answer is scored for, by a question of its own."""

    name: Name
    question: str
    """Appended to the rubric's own question; the same placeholders are filled in."""
    scale: tuple[str, ...] | None = Field(default=None, min_length=2)
    """Worst to best; by default the rubric's."""
    anchors: dict[str, str] = Field(default={})
    """Value of the scale -> description of an answer that deserves it; shown below the question, one a line."""
    weight: float = Field(default=1, gt=0)
    """Weight of this dimension in the rubric's score."""


class Rubric(Section):
    """A model that reads prompt and answer and rates the answer. The score is the expected value over the scale's token
    probabilities."""

    name: RubricName
    model: Model
    system: str
    """System prompt of the judge."""
    question: str
    """The last turn; `{text}`, `{answer}` and `{reference}` are filled in. Without a reference the line with it is left out."""
    by_task_unit: dict[Name, str] = Field(default={})
    """Task unit -> a question in place of `question`."""
    scale: tuple[str, ...] = Field(default=("1", "2", "3", "4", "5"), min_length=2)
    """Worst to best; each value must be one token of the judge."""
    dimensions: Annotated[tuple[Dimension, ...], distinct()] = ()
    """Without any, `question` itself asks for the rating."""
    weight: float = Field(default=1, gt=0)
    """Weight of this rubric in the judge's score, where there are several rubrics."""
    shots: tuple[RatedShot, ...] = ()
    """Worked examples, shown in order as earlier turns."""

    @model_validator(mode="after")
    def anchors_and_shots_are_on_the_scale(self) -> "Rubric":
        for dimension in self.dimensions:
            scale = dimension.scale or self.scale
            if unknown := sorted(set(dimension.anchors) - set(scale)):
                raise ValueError(f"dimensions: {dimension.name}: found anchors of {unknown}, expected values of the scale {scale}")
        scales = {dimension.name: dimension.scale or self.scale for dimension in self.dimensions} or {"": self.scale}
        for number, shot in enumerate(self.shots):
            ratings = shot.rating if isinstance(shot.rating, dict) else {"": shot.rating}
            if set(ratings) != set(scales) or any(ratings[name] not in scale for name, scale in scales.items()):
                raise ValueError(f"shots.{number}.rating: found {shot.rating!r}, expected " + _expected(scales))
        return self


def _expected(scales: dict[str, tuple[str, ...]]) -> str:
    return " and ".join(f"for {name} one of {list(scale)}" if name else f"one of {list(scale)}" for name, scale in scales.items())


class PairShot(Section):
    """One worked example of comparing two answers."""

    text: str
    first: str
    second: str
    reference: str = ""
    label: str
    """One of `ranking.labels`."""


class Ranking(Section):
    """Competing answers are compared in pairs, each pair in both orders, and ranked by Bradley and Terry (1952)."""

    rubric: Name | None = None
    """Rubric whose model and system prompt are used; by default the first one."""
    question: str
    """Asks which answer suits the student better; `{text}`, `{first}`, `{second}`, `{reference}` are filled in."""
    by_task_unit: dict[Name, str] = Field(default={})
    """Task unit -> a question in place of `question`."""
    labels: tuple[str, str, str] = ("A", "B", "C")
    """The first is better, the second is better, neither is; each must be one token of the judge."""
    shots: tuple[PairShot, ...] = ()
    max_answers: int = Field(default=6, ge=2)
    """Answers to one prompt that are compared, the most confident first: n of them are n (n - 1) questions."""


class Accept(Section):
    """Thresholds from which an answer is accepted."""

    confidence: Share = 0.5
    """Below, a person should look at it (`review`)."""
    agreement: Share = 0.5
    """Share of equal samples; below, the answer goes to `hard`."""


class Scored(Section):
    """Log-probabilities of a labelled answer, as an earlier call of the same model on the same prompt read them."""

    key: str
    """Hash of the model, the prompt and the answer; where it is another, the answer is read again."""
    ends: tuple[int, ...]
    """Index in the answer of the character after each token; empty = unknown."""
    logprobs: tuple[float, ...]
    """Of each token and of the end of the turn, nats."""


class GoldItem(Section):
    """One labelled answer."""

    model_config = ConfigDict(extra="ignore")  # a file of labelled items may hold more than the judge reads

    input: str
    answer: str
    label: Literal["right", "wrong"]
    reference: str | None = None
    """The right answer: a wrong one is compared with it, and it fills in `{reference}`."""
    error: str | None = None
    """Kind of the error; the report gives the share of each kind that the judge stops."""
    author: str = ""
    """The model that wrote the answer, or the contract's name of the teacher; needed to measure whether the judge prefers its own
    family, and to tell answers of teachers from planted ones."""
    task_unit: str = ""
    group: str = added("")
    """Items of one group are held out together; by default those of one input."""
    samples: dict[Name, tuple[str, ...]] = added({})
    """Teacher -> its answers to this input, sampled as the contract samples; agreement is computed from them."""
    scored: Scored | None = added(None)
    """What the teacher's model reads in the answer; else it is asked once."""


class Minimum(Section):
    """Quality that the judge must reach on the labelled items. Below, its confidence is recorded and decides nothing."""

    kappa: float | None = Field(default=None, ge=-1, le=1)
    auc: Share | None = None
    sensitivity: Share | None = None
    specificity: Share | None = None
    ece: Share | None = None
    """An upper limit: the expected calibration error must be at most this."""


class Calibrate(Section):
    """Labelled items by which the judge's score is mapped to a probability of being right."""

    gold: tuple[GoldItem, ...] = Field(min_length=8)
    """Usually `!include judge_gold.jsonl`."""
    method: Literal["platt", "isotonic"] = "platt"
    """`platt`: a logistic curve (Platt, 1999); `isotonic`: a step function, for some hundred items (Zadrozny and Elkan, 2002)."""
    folds: int = Field(default=5, ge=2)
    """Folds of the cross-validation by which the quality of the curve is measured."""
    minimum: Minimum = Minimum()


class Limits(Section):
    """Largest bias that is tolerated; null = measured only. Scores go from 0 to 1."""

    position: Share | None = 0.1
    """Preference for one place in a pair: 1 = always the first, or always the second."""
    length: Share | None = 0.1
    """Score that a wrong answer gains by being repeated, or by being cut in half."""
    self_preference: Share | None = 0.1
    """Score that answers of the judge's own model family gain over others with the same label."""
    paraphrase: Share | None = 0.2
    """Mean absolute change of the score when the question is reworded."""
    batches: Share | None = 0.2
    """Distance of a batch's mean score from the mean of the other batches."""
    runs: Share | None = 0.1
    """Distance of the mean score from that of the last run with this judge."""


class Audit(Section):
    """Tests of the judge for biases: it is asked about the labelled items in other forms."""

    limits: Limits = Limits()
    items: int = Field(default=40, ge=8)
    """Most labelled items that are shown in other forms."""
    wordings: tuple[str, ...] = ("Please read this with care.\n\n{question}",)
    """Rewordings of a question; `{question}` is replaced by the rubric's."""
    rules: Share = 0.1
    """Share of the answers that failed a check which the judge scores too, to measure whether it agrees with the checks."""


class Judges(Section):
    """Deterministic checks first, then the rubrics."""

    checks: tuple[Check, ...] = ()
    rubrics: Annotated[tuple[Rubric, ...], distinct()] = ()
    """Several are a panel: the score is the weighted mean of theirs (Verga et al., 2024)."""
    ranking: Ranking | None = None
    """How competing answers are compared in mode `competition`; by default by their confidence."""
    accept: Accept = Accept()
    calibrate: Calibrate | None = None
    signals: Signals | None = None
    """Scores of the answers for data selection."""
    audit: Audit | None = None
    """Needs labelled items in `calibrate`."""
    evidence: Evidence | None = added(None)
    """What the confidence is computed from; null: from the rubrics' score alone. Needs labelled items in `calibrate`."""
    pools: Pools = Pools()

    @model_validator(mode="after")
    def ranking_names_a_rubric(self) -> "Judges":
        names = [rubric.name for rubric in self.rubrics]
        if self.ranking and (self.ranking.rubric or (names or [None])[0]) not in names:
            raise ValueError(f"ranking.rubric: found {self.ranking.rubric!r}, expected one of rubrics {names}")
        return self

    @model_validator(mode="after")
    def audit_has_labelled_items(self) -> "Judges":
        if self.audit and not self.calibrate:
            raise ValueError("audit: needs labelled items; add calibrate.gold")
        return self

    @model_validator(mode="after")
    def evidence_is_complete(self) -> "Judges":
        if self.evidence is None:
            return self
        if not self.calibrate:
            raise ValueError("evidence: needs labelled items; add calibrate.gold")
        if self.audit and not self.rubrics:
            raise ValueError("audit: tests rubrics for biases, and there are none; take it out")
        if self.evidence.uncertain_between and not (self.rubrics or self.evidence.readers):
            raise ValueError("evidence.uncertain_between: there are neither rubrics nor readers to ask; take it out, or add one")
        names = {rubric.name for rubric in self.rubrics} & {reader.name for reader in self.evidence.readers}
        if names:
            raise ValueError(
                f"evidence.readers: {sorted(names)} are rubrics, too; their usage is noted by name, so names must differ"
            )
        return self

    @property
    def keeps_processes(self) -> bool:
        """Whether a check computes in a process of its own, which who checks starts once and keeps."""
        return any(isinstance(check, Code | Sql | Mathematics) for check in self.checks)

    @property
    def ranker(self) -> Rubric | None:
        """The rubric whose model compares answers; None where they are not compared."""
        name = self.ranking and (self.ranking.rubric or self.rubrics[0].name)
        return next((rubric for rubric in self.rubrics if rubric.name == name), None)
