"""Records about a judge: its calibration, its audit, its scores in a run, and what a change of the judge moves between pools."""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field

from engine.records.base import BeforeAfter, Record, unless
from engine.records.calibration import CalibrationCurve, EvidenceFit, JudgeAgreement


def _empty_is_none(value: Any) -> Any:
    """Older records hold {} where nothing was measured."""
    return value or None


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
    evidence: dict[str, float] = Field(default={}, exclude_if=unless({}))
    """Name -> number of the evidence that is known of it."""
    group: str = Field(default="", exclude_if=unless(""))
    """Items of one group were held out together."""
    own: bool = Field(default=False, exclude_if=unless(False))
    """Whether a teacher of the contract wrote it."""
    kept: bool = Field(default=True, exclude_if=unless(True))
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
    evidence: EvidenceFit | None = Field(default=None, exclude_if=unless(None))
    """How the confidence is computed from all evidence; null: from the rubrics' score alone."""


class JudgeStatus(Record):
    """The judge in `rayleigh status --json`."""

    name: str
    """Names of the rubrics, joined by +."""
    decides: bool = Field(validation_alias=AliasChoices("decides", "gates"))
    """Whether its confidence decided about answers."""
    why: tuple[str, ...] = ()
    """Why it did not, a sentence each."""
    evidence: EvidenceFit | None = Field(default=None, exclude_if=unless(None))
    """How the confidence is computed from all evidence; null: from the rubrics' score alone."""


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
