"""What the page shows, as plain values: bounded, so that the page does not grow with the corpus."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

BINS = 20  # of the confidence histogram, over 0 to 1


class Outcome(NamedTuple):
    """Where some rows of a job went."""

    label: str  # as the job's tally calls it: a pool, a drop reason, a split
    rows: int
    meaning: str
    kind: str  # on | aside | out: goes on down the line, is kept for another use, leaves


class Stage(NamedTuple):
    """One job of the funnel."""

    job: str
    rows_in: int
    unit: str  # what a row is here
    outcomes: list[Outcome]

    @property
    def is_conserved(self) -> bool:
        """Whether rows in equal rows out."""
        return self.rows_in == sum(outcome.rows for outcome in self.outcomes)


@dataclass
class Counts:
    """Sums over every answer, read shard by shard."""

    answers: int = 0
    fates: dict[tuple[str, str], int] = field(default_factory=dict)  # (pool, dropped_by) -> answers
    reasons: dict[tuple[str, str], int] = field(default_factory=dict)  # (pool, reason tag) -> answers
    checks: dict[str, tuple[int, int]] = field(default_factory=dict)  # check -> (passed, failed)
    finish_reasons: dict[str, int] = field(default_factory=dict)
    teachers: dict[str, dict[str, float]] = field(default_factory=dict)  # name -> answers, tokens_in, tokens_out, seconds
    confidence: dict[str, list[int]] = field(default_factory=dict)  # pool -> answers in each of BINS equal bins
    clusters: dict[int, tuple[int, int]] = field(default_factory=dict)  # cluster -> (kept, dropped)


@dataclass(frozen=True)
class Facts:
    """All that `page` reads. `report` is report.json; `contract` is the resolved contract."""

    run: str
    created: str
    report: dict[str, Any]
    contract: dict[str, Any]
    jobs: list[dict[str, Any]]
    """The record of each finished job."""
    counts: Counts = field(default_factory=Counts)
    splits: dict[str, int] = field(default_factory=dict)
    """Examples by split: train, validation."""
    points: list[dict[str, Any]] = field(default_factory=list)
    """Prompts on the 2-D map, one each."""
    pairs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Drop reason -> a few answers or prompts with what they lost to."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    """Answers with their whole lineage, some from every pool."""
    steps: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Student -> optimizer steps and validations, in order."""
    predictions: list[dict[str, Any]] = field(default_factory=list)
    """Holdout prompts, each with every model's answer."""

    @property
    def models(self) -> list[dict[str, Any]]:
        """The models of report.json: teacher, students from large to small, champion, baselines."""
        rank = {"teacher": 0, "champion": 1, "student": 2, "baseline": 3}
        found = self.report.get("models") or []
        return sorted(found, key=lambda m: (rank.get(str(m.get("role")), 4), -(m.get("parameters") or 0), m.get("name", "")))

    @property
    def judge(self) -> dict[str, Any]:
        """What is known of the judge: report.json, else the job that judged; {} without one."""
        facts = next((job.get("metrics") or {} for job in self.jobs if job["job"] == "candidates"), {})
        return self.report.get("judge") or facts.get("judge") or {}
