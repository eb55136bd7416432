"""Data of the page, bounded in size so that the page does not grow with the corpus."""

from dataclasses import dataclass, field
from typing import NamedTuple

from engine.records.base import Json
from engine.records.candidates import CandidatesMetrics
from engine.records.judge import JudgeMetrics
from engine.records.record import ArtifactRecord
from engine.records.report import ModelEntry, Report
from engine.rows import Row

BINS = 20  # of the confidence histogram, over 0 to 1
ROLE_ORDER = ("teacher", "champion", "student", "baseline")


class Outcome(NamedTuple):
    """Rows of a job with the same label."""

    label: str  # a pool, a drop reason or a split, as in the job's row counts
    rows: int
    meaning: str
    kind: str  # on: goes on to the next job; aside: kept for another use; out: leaves


class Stage(NamedTuple):
    """One job of the funnel."""

    job: str
    rows_in: int
    unit: str  # of the rows
    outcomes: list[Outcome]

    @property
    def is_conserved(self) -> bool:
        """Whether rows in equal rows out."""
        return self.rows_in == sum(outcome.rows for outcome in self.outcomes)


class TeacherSums(NamedTuple):
    """Sums over the answers of one teacher."""

    answers: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0  # of its engines

    def plus(self, other: "TeacherSums") -> "TeacherSums":
        """Return the sum of both."""
        return TeacherSums._make(mine + theirs for mine, theirs in zip(self, other, strict=True))


@dataclass
class Counts:
    """Sums over every answer, read shard by shard."""

    answers: int = 0
    dispositions: dict[tuple[str, str], int] = field(default_factory=dict)
    """(pool, dropped_by) -> answers."""
    reasons: dict[tuple[str, str], int] = field(default_factory=dict)
    """(pool, reason tag) -> answers."""
    checks: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Check -> (passed, failed)."""
    finish_reasons: dict[str, int] = field(default_factory=dict)
    """Finish reason -> answers."""
    teachers: dict[str, TeacherSums] = field(default_factory=dict)
    """Teacher -> sums."""
    confidence: dict[str, list[int]] = field(default_factory=dict)
    """Pool -> answers in each of BINS equal bins."""
    clusters: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Cluster -> (kept, dropped)."""


class MapPoint(NamedTuple):
    """One prompt on the 2-D map; embedded in the page as a list in this order."""

    x: float
    y: float
    cluster: int
    pool: str
    dropped_by: str
    duplicate_of: int  # index of the point it duplicates, -1 if there is none on the map
    layer: str
    text: str


class DroppedPair(NamedTuple):
    """A dropped answer or prompt with the one it duplicates."""

    duplicate_of: str  # id of the kept row
    similarity: float | None
    text: str
    answer: str
    kept_text: str  # "" if the kept row is not among the tables that were searched
    kept_answer: str


class LossPoint(NamedTuple):
    """One optimizer step or validation."""

    step: int
    split: str  # train | validation
    loss: float | None  # nats per target token
    tokens: int  # target tokens so far
    metric: float | None = None  # share of exact answers at a validation; None = nothing was generated


@dataclass(frozen=True)
class PageData:
    """Everything that `page` reads."""

    run: str
    created: str
    report: Report
    contract: Json
    """The resolved contract."""
    jobs: list[ArtifactRecord]
    """Records of the finished jobs, in the order of the pipeline."""
    counts: Counts = field(default_factory=Counts)
    splits: dict[str, int] = field(default_factory=dict)
    """Split -> examples."""
    points: list[MapPoint] = field(default_factory=list)
    """One point per prompt."""
    pairs: dict[str, list[DroppedPair]] = field(default_factory=dict)
    """Drop reason -> a few examples of it."""
    samples: list[Row] = field(default_factory=list)
    """PICKED or CANDIDATE rows, some from every pool, with `split`."""
    steps: dict[str, list[LossPoint]] = field(default_factory=dict)
    """Student -> optimizer steps and validations, in order."""
    predictions: list[Row] = field(default_factory=list)
    """Holdout prompts, each with `models`: name -> answer."""

    @property
    def models(self) -> list[ModelEntry]:
        """The report's models: teachers, champion, students from large to small, baselines."""
        return sorted(self.report.models, key=lambda m: (ROLE_ORDER.index(m.role), -(m.parameters or 0), m.name))

    def metrics(self, job: str) -> Json:
        """Return the metrics of `job`; empty if it is not finished."""
        return next((record.metrics for record in self.jobs if record.job == job), {})

    @property
    def judge(self) -> JudgeMetrics | None:
        """The judge, from the report, else from the candidates job; None without a judge."""
        return self.report.judge or CandidatesMetrics.model_validate(self.metrics("candidates")).judge
