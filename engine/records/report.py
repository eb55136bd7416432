"""`report.json`: the numbers of every evaluated model, the gate's decision and the sentences to read before the numbers.

The file is written by the reports step, kept in every release, and printed by `rayleigh report RUN --json`. A number that does not
exist for a model is null. A key that an older file lacks has its default, so that older reports can be read. Intervals have the
level of the contract's `evaluation.level`.
"""

from typing import Literal

from pydantic import Field

from engine.records.ablation import Ablation
from engine.records.base import Json, Record
from engine.records.certificate import CascadeCurve
from engine.records.estimate import Estimate, ReliabilityBin
from engine.records.gate import GateDecision, RequirementTest
from engine.records.judge import JudgeMetrics
from engine.records.worth import Worth

VERSION = 1

Role = Literal["teacher", "student", "champion", "baseline"]


class Holdout(Record):
    """Size of the holdout."""

    rows: int = 0
    """Prompts."""
    seen: int = 0
    """Prompts whose scenario also occurs among the training prompts."""
    unseen: int = 0
    """Prompts whose scenario never occurs among the training prompts."""
    clusters: int = 0
    """Clusters of these prompts, by `evaluation.cluster`; only clusters are independent. 0 in older reports."""
    closed: int = 0
    """Further prompts of the part that is kept closed (`gate.confirm`); only `gate.confirmation` counts them."""


class Metrics(Record):
    """Quality of one model on the holdout."""

    exact_match: Estimate | None = None
    """Share of prompts answered exactly as the reference."""
    exact_match_unseen: Estimate | None = None
    """The same on unseen scenarios."""
    exact_match_seen: Estimate | None = None
    """The same on seen scenarios."""
    field_f1: Estimate | None = None
    """F1 of the fields' values, averaged over the fields (macro)."""
    schema_validity: Estimate | None = None
    """Share of answers that fit the JSON schema; null without a schema."""
    abstain_precision: Estimate | None = None
    """Of the fields that the model left null, the share that the prompt does not state."""
    abstain_recall: Estimate | None = None
    """Of the fields that the prompt does not state, the share that the model left null."""
    ece: Estimate | None = None
    """Expected calibration error, 10 equal-width bins; null for a model without a confidence."""
    brier: Estimate | None = None
    """Brier score: mean squared difference of confidence and correctness."""


class FieldScores(Record):
    """Scores of one field of the output; null where the field was never stated or never expected."""

    precision: float | None = None
    """Right values over stated values."""
    recall: float | None = None
    """Right values over expected values."""
    f1: float | None = None
    """Harmonic mean of both."""


class Slice(Record):
    """One value of a dimension, such as difficulty = hard."""

    n: int = 0
    """Prompts."""
    exact_match: Estimate | None = None
    """As in `metrics`, on these prompts."""
    checks: dict[str, Estimate | None] = Field(default_factory=dict)
    """Check -> share of answers that pass."""


class Latency(Record):
    """Wall time of one prompt alone in the engine (batch of one)."""

    p50_ms: float
    """Median, milliseconds."""
    p95_ms: float
    """95th percentile, milliseconds."""
    n: int = 0
    """Timed prompts."""
    p95: Estimate | None = None
    """The 95th percentile with its interval; null below 2 timed prompts, and in older reports."""
    method: str = ""
    """How the interval was computed; 59 timed prompts or more need no assumption about their distribution."""


class Cost(Record):
    """Cost when the teacher answers what the model is not confident about."""

    per_1000_accepted: float | None = None
    """Price of 1,000 right answers in the contract's currency, with fallbacks and corrections; null if nothing is right or was
    timed."""
    answered_share: float = 1.0
    """Share of requests that the model answers itself: its confidence is at least `specialist.niche.answer_above`."""
    fallback_share: float = 0.0
    """Share of requests that go to the teacher."""
    accepted_share: float = 0.0
    """Share of requests answered right, by either."""


class Calibration(Record):
    """Confidence against correctness."""

    bins: tuple[ReliabilityBin, ...] = ()
    """10 bins of equal width, lowest first."""


class TeacherComparison(Record):
    """A model against the teacher on the same prompts; the intervals are paired."""

    teacher: str = ""
    """The teacher with the highest exact match."""
    difference: Estimate | None = None
    """Exact match less the teacher's."""
    retention: Estimate | None = None
    """Exact match over the teacher's."""
    retention_unseen: Estimate | None = None
    """The same on unseen scenarios."""


class StudentComparison(Record):
    """An export against the student that it was made from, on the same prompts."""

    student: str
    """Name of the student."""
    same_answer: Estimate | None = None
    """Share of prompts to which both give the same answer, character by character."""
    difference: Estimate | None = None
    """Exact match less the student's, paired."""


class ModelEntry(Record):
    """One evaluated model."""

    name: str
    """Name in the contract; `champion` for the champion."""
    role: Role
    """teacher, student, champion or baseline."""
    parameters: int | None = None
    """Parameters, tied weights counted once."""
    weight_bytes: int | None = None
    """Size of its files of weights."""
    runtime: str | None = None
    """Engine that evaluated it, such as vllm or llama_cpp; null for a baseline and in older reports."""
    exported_from: str | None = None
    """The student of which this is an export, such as `s` for `s.q8_0`; its role is student, too."""
    layers: int | None = None
    """Decoder layers."""
    size_vs_teacher: float | None = None
    """Parameters over the teacher's."""
    error: str | None = None
    """Why the model could not be evaluated; null if it was."""
    metrics: Metrics = Metrics()
    """Quality."""
    fields: dict[str, FieldScores] = Field(default_factory=dict)
    """Field of the output -> scores."""
    checks: dict[str, Estimate | None] = Field(default_factory=dict)
    """Check of `evaluation.checks` -> share of answers that pass."""
    slices: dict[str, dict[str, Slice]] = Field(default_factory=dict)
    """Dimension -> value -> scores."""
    latency: Latency | None = None
    """Null if no prompt was timed."""
    tokens_per_second: float | None = None
    """Answer tokens per second of one batch, while no other model answers."""
    memory_mib: float | None = None
    """Resident memory of the process and those that it started, MiB; GPU memory is not included."""
    cost: Cost | None = None
    """Null without a teacher."""
    calibration: Calibration = Calibration()
    """Reliability diagram."""
    against_teacher: TeacherComparison | None = None
    """Null for the teacher itself."""
    against_student: StudentComparison | None = None
    """Null but for an export."""
    against_baselines: dict[str, Estimate | None] = Field(default_factory=dict)
    """Baseline -> difference in exact match, paired."""
    against_twins: dict[str, Estimate | None] = Field(default_factory=dict)
    """Student that learned by `sft` alone (`gate.hurt_by.twins`) -> difference in exact match, paired."""
    tests: dict[str, RequirementTest] | None = None
    """Requirement of the gate -> its test; null for models that the gate does not decide on, and in older reports."""


class CurationSummary(Record):
    """Summary of the training set, from the metrics of the dataset step."""

    selection: Json | None = None
    """Balance, coverage and density before and after selection; null without embeddings."""
    decontamination: Json | None = None
    """What was compared with the holdout and the evaluation lists, and what was removed."""


class Report(Record):
    """The whole file."""

    version: int = VERSION
    """Version of this layout; a file without the key has version 1."""
    run: str = ""
    """Run folder or URL."""
    contract: str = ""
    """Name of the contract."""
    created: str = ""
    """Time of writing, ISO 8601, UTC."""
    holdout: Holdout = Holdout()
    """Number of holdout prompts."""
    models: tuple[ModelEntry, ...] = ()
    """Teachers, students, champion, baselines."""
    gate: GateDecision = GateDecision()
    """Decision of the contract's gate."""
    findings: tuple[str, ...] = ()
    """Sentences to read before the numbers, most serious first."""
    judge: JudgeMetrics | None = None
    """From the metrics of the candidates step; null without a judge."""
    curation: CurationSummary = CurationSummary()
    """Summary of the training set."""
    ablation: Ablation | None = None
    """Result of `rayleigh ablate` on this dataset, if there is one."""
    worth: Worth | None = None
    """What the run cost and saves, whose errors the students make, and what to do next; null in older reports."""
    cascade: tuple[CascadeCurve, ...] = ()
    """Each student that gives a confidence before the best teacher, over all thresholds; empty in older reports."""

    def model(self, name: str, role: Role = "student") -> ModelEntry:
        """Return the entry of the model `name`.

        Raises:
            KeyError: the report has no model of this name and role.
        """
        for entry in self.models:
            if (entry.name, entry.role) == (name, role):
                return entry
        raise KeyError(f"{role} {name!r}; the report has {[entry.name for entry in self.models]}")
