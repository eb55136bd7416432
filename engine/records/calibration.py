"""Records of a calibration: its curve, its agreement with the labels, and how evidence becomes a confidence."""

from typing import Literal

from pydantic import AliasChoices, Field

from engine.records.base import Record
from engine.records.estimate import Estimate, ReliabilityBin


class CalibrationCurve(Record):
    """The map from the judge's score to the probability that the answer is right (`engine.calibration.curve`)."""

    method: Literal["platt", "isotonic"]
    """`platt`: logistic in the log odds of the score; `isotonic`: piecewise linear between corners."""
    clip: float = Field(validation_alias=AliasChoices("clip", "least"))
    """Probabilities are clipped to clip .. 1 - clip: some items make nothing certain (Laplace's rule)."""
    slope: float = 0.0
    """Slope in the log odds of the score; `platt` only."""
    intercept: float = 0.0
    """Intercept; `platt` only."""
    scores: tuple[float, ...] = ()
    """Scores of the corners, rising; `isotonic` only."""
    probabilities: tuple[float, ...] = ()
    """Probabilities of the corners; `isotonic` only."""


class JudgeAgreement(Record):
    """How well the judge tells right from wrong labelled items. It says right where its confidence reaches `threshold`."""

    kappa: Estimate | None = None
    """Cohen's kappa between judge and labels."""
    sensitivity: Estimate | None = None
    """Share of the right answers that it passes."""
    specificity: Estimate | None = None
    """Share of the wrong answers that it stops."""
    auc: Estimate | None = None
    """Area under the ROC curve of the score, before calibration."""
    ece: Estimate | None = None
    """Expected calibration error of the confidence."""
    threshold: float
    """`judges.accept.confidence` of the contract."""
    base_rate: float
    """Share of the labelled items that is right."""
    counts: tuple[tuple[int, int], tuple[int, int]]
    """Items as [[wrong and stopped, right and stopped], [wrong and passed, right and passed]]."""
    bins: tuple[ReliabilityBin, ...] = ()
    """Reliability diagram of the confidence."""
    errors: dict[str, Estimate] = Field(default={})
    """Kind of error -> share of the wrong answers of that kind that it stops."""
    pairs: Estimate | None = None
    """Share of pairs in which it prefers the right answer to the wrong one; null if no pairs are compared."""


class LinearModel(Record):
    """A logistic model: the log odds are `intercept` plus the sum of weight x (number - mean) / scale, clipped to 4 scales."""

    features: tuple[str, ...]
    """Names of the numbers, such as `logprob` or `field_logprobs:product` (`engine.evidence.features`)."""
    means: tuple[float, ...]
    """Of each number over the labelled items."""
    scales: tuple[float, ...]
    """Standard deviation of each number over the labelled items."""
    weights: tuple[float, ...]
    """Of each number in standard deviations; the sum is in nats of log odds."""
    intercept: float
    """Log odds where every number is its mean."""


class EvidenceKind(Record):
    """One kind of evidence: what it tells alone, and what it is worth beside the others."""

    name: str
    """A kind of `judges.evidence.of`, or `rubric:NAME`, `reader:NAME`."""
    numbers: tuple[str, ...]
    """The numbers that it gives and that can be used; all if none can."""
    items: int
    """Labelled items that it was measured on; 0 if it cannot be used."""
    auc: Estimate | None = None
    """Area under the ROC curve of this kind alone, cross-fitted."""
    auc_without: Estimate | None = None
    """That of all other kinds together; null if there are none."""
    worth: Estimate | None = None
    """What the log loss, in nats for each item, rises by without this kind; below 0 = it harms. Null if there are no others."""
    used: bool = False
    """Whether the confidence depends on it."""
    tokens: float | None = None
    """Tokens that it costs for each answer that is asked about; null for evidence that needs no call."""
    why: str = ""
    """Why it could not be used at all."""


class EvidenceFit(Record):
    """How the confidence is computed from all evidence. Its `curve` follows: that of the calibration."""

    model: LinearModel
    """Evidence -> score, the raw probability."""
    form: Literal["one", "all"]
    """`one`: a single number; `all`: all that are known."""
    why: str
    """Why this form."""
    trained_on: Literal["own", "labelled"]
    """`own`: labelled items that a teacher of the contract wrote; `labelled`: planted ones, too."""
    measured_on: Literal["own", "labelled"]
    """Which items `agreement` is of: planted ones tell little about the answers of a run; they count if there are few others."""
    strength: float
    """Inverse strength of the regularisation, scikit-learn's C."""
    items: int
    """Labelled items of which all used evidence is known."""
    own: int
    """Those of them that a teacher of the contract wrote."""
    failed_checks: int
    """Labelled items that fail a check, and are left out: no such answer is judged."""
    kinds: tuple[EvidenceKind, ...]
    """Each kind of evidence."""
    free: JudgeAgreement | None = None
    """Agreement with the labels without rubrics and readers; null if there are none."""
    asked: int | None = None
    """Answers of the run about which rubrics and readers were asked; null before a run, or if there are none."""
    judged: int | None = None
    """Answers of the run that have a confidence; null before a run."""
