"""Records about a judge: its calibration, its audit, its scores in a run, and what a change of the judge moves between pools."""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field

from engine.records.base import BeforeAfter, Record
from engine.records.estimate import Estimate, ReliabilityBin


def _empty_is_none(value: Any) -> Any:
    """Older records hold {} where nothing was measured."""
    return value or None


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
    """The numbers that it gives."""
    items: int
    """Labelled items of which all of them are known."""
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
    """Which items `agreement` is of: planted ones tell little about the answers of a run, and count only if there are few others."""
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


class AuditProbe(Record):
    """One test of the judge for a bias or for drift."""

    probe: str
    """position, padded, shortened, self_preference, paraphrase; in a run also rules, batches, runs."""
    value: float | None
    """Size of the bias, 0 for a judge without it (`rules`: 0.5); null if it could not be measured."""
    low: float | None
    """Lower end of its confidence interval."""
    high: float | None
    """Upper end of its confidence interval."""
    n: int
    """Items that it was measured on."""
    limit: float | None
    """Largest tolerated bias, from `judges.audit.limits`; null = none."""
    verdict: Literal["within", "unclear", "beyond", "measured", "unmeasured"] = Field(
        validation_alias=AliasChoices("verdict", "found")
    )
    """`beyond` if the whole interval lies beyond the limit, `within` if none of it does, else `unclear`; `measured`: no limit."""
    why: str = ""
    """Why it could not be measured, or what `runs` was compared with."""


class ModelIdentity(Record):
    """A model of the judge."""

    path: str
    """Its folder or name in the contract."""
    hash: str
    """Hash of its weights and settings."""


class GoldIdentity(Record):
    """The labelled items."""

    hash: str
    """Hash of all items."""
    items: int
    """Number of items."""


class JudgeBinding(Record):
    """What a calibration is valid for. A judge of which any of this differs is calibrated anew; known questions cost nothing."""

    judge: str
    """Hash of the judge: models, rubrics and ranking without their names."""
    models: dict[str, ModelIdentity] = Field(default={})
    """Rubric -> its model."""
    rubrics: dict[str, str] = Field(default={})
    """Rubric -> hash of its text, scale and examples."""
    gold: GoldIdentity | None = None
    """Null without labelled items."""
    settings: str = ""
    """Hash of `judges.calibrate` without the items and of `judges.audit` without `rules`."""
    threshold: float | None = None
    """`judges.accept.confidence` of the contract."""
    references: bool = False
    """Whether the labelled items were shown with their references."""


class LabelledItem(Record):
    """One labelled item before the judge."""

    id: str
    """Hash of prompt and answer."""
    label: Literal["right", "wrong"]
    """Label of the item."""
    error: str | None
    """Kind of the error, if the item states it."""
    score: float | None
    """Score of the judge, 0 to 1; null if its reply could not be read."""
    confidence: float | None
    """Cross-fitted probability that the answer is right; null if the score is."""
    evidence: dict[str, float] = Field(default={})
    """Name -> number of the evidence that is known of it."""
    group: str = ""
    """Items of one group were held out together."""
    own: bool = False
    """Whether a teacher of the contract wrote it."""
    kept: bool = True
    """Whether the evidence was fitted to it; not if it fails a check."""


class JudgeCalibration(Record):
    """What was measured of a judge on labelled items: the file `calibration-HASH.json` of the judgements' ledger."""

    bound_to: JudgeBinding
    """What it is valid for."""
    curve: CalibrationCurve
    """Map from score to confidence."""
    folds: int
    """Folds of the cross-validation behind `agreement`, all but auc and pairs; 1 = the curve was fitted to the same items."""
    agreement: JudgeAgreement
    """Agreement with the labels."""
    audit: tuple[AuditProbe, ...]
    """Tests for biases; empty if the contract asks for none."""
    items: tuple[LabelledItem, ...]
    """Each labelled item."""
    decides: bool = Field(validation_alias=AliasChoices("decides", "gates"))
    """Whether the judge's confidence may decide about answers; else it is only recorded."""
    why: tuple[str, ...]
    """Why it may not, a sentence each."""
    evidence: EvidenceFit | None = None
    """How the confidence is computed from all evidence; null: from the rubrics' score alone."""


class JudgeStatus(Record):
    """The judge in `rayleigh status --json`."""

    name: str
    """Names of the rubrics, joined by +."""
    decides: bool = Field(validation_alias=AliasChoices("decides", "gates"))
    """Whether its confidence decided about answers."""
    why: tuple[str, ...] = ()
    """Why it did not, a sentence each."""


class JudgeMetrics(JudgeStatus):
    """The judge in the metrics of the step `candidates` and in `report.json`."""

    bound_to: JudgeBinding
    """What was calibrated; without labelled items the judge's hash alone."""
    curve: Annotated[CalibrationCurve | None, BeforeValidator(_empty_is_none)] = None
    """Null without labelled items, as all that follows."""
    folds: int = 0
    """As in `JudgeCalibration`; 0 without labelled items."""
    agreement: Annotated[JudgeAgreement | None, BeforeValidator(_empty_is_none)] = None
    """Agreement with the labels."""
    audit: tuple[AuditProbe, ...] = ()
    """Tests for biases, and after a run for drift."""
    evidence: EvidenceFit | None = None
    """How the confidence is computed from all evidence; null: from the rubrics' score alone."""


class JudgeReport(JudgeCalibration):
    """What `rayleigh judge --json` prints: a calibration, its contract, and what it has cost."""

    contract: str
    """Name of the contract."""
    name: str
    """Names of the rubrics, joined by +."""
    tokens: int
    """Tokens paid for judges so far in the run folder."""


class JudgeScores(Record):
    """Scores of one run, by which the next run with the same judge measures drift: a file `scores-JUDGE-RUN.json` of the ledger."""

    judge: str
    """Hash of the judge."""
    run: str
    """URL of the candidates."""
    created: float
    """Unix time, seconds."""
    scores: tuple[int, float, float]
    """Prompts with a score, sum of their mean scores, and sum of the squares of these means."""


class MoveReason(Record):
    """Answers that moved for one and the same reason."""

    before: tuple[str, ...]
    """Reasons of the older pool."""
    after: tuple[str, ...]
    """Reasons of the newer pool."""
    answers: int
    """Answers that moved."""
    examples: tuple[str, ...]
    """A few answer ids, for `rayleigh trace`."""


class Move(Record):
    """Answers that moved from one pool to another, or stayed with other reasons."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    source: str = Field(alias="from")
    """Pool before; "" if the judge merged the answer now."""
    to: str
    """Pool after; "" if the judge had merged the answer before."""
    answers: int
    """Answers that moved."""
    reasons: tuple[MoveReason, ...]
    """By reason, most answers first."""


class RejudgeComparison(Record):
    """What `rayleigh rejudge --json` prints: the answers of a run graded by another judge."""

    run: str
    """Run folder."""
    answers: int
    """Answers that were graded."""
    changes: tuple[str, ...]
    """Settings of the judge that differ from the run's: `path: old -> new`."""
    pools: BeforeAfter[dict[str, int]]
    """Pool -> answers, with the judge of the run and with the other judge."""
    moves: tuple[Move, ...]
    """Moves between pools, then changes of reasons within a pool; most answers first."""
    paid: int
    """Tokens that the judge was paid by this call."""
    written: bool = False
    """Whether the new grades are now the candidates of the run."""
    earlier: str | None = None
    """Folder of the former candidates and of all that was made from them; null if nothing was moved."""
    stale_jobs: tuple[str, ...] = ()
    """Jobs that the next `rayleigh run` runs again."""
