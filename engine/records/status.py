"""What `rayleigh status RUN --json` prints."""

from typing import Literal

from pydantic import Field

from engine.records.base import Record
from engine.records.candidates import FailureReason, TeacherCost
from engine.records.judge import JudgeStatus
from engine.records.on_policy import OnPolicyMetrics, RoundMetrics
from engine.records.student import SeedMetrics, Spread


class JobStatus(Record):
    """How far one job is."""

    name: str
    """Such as `candidates` or `students/s`."""
    state: Literal["finished", "unfinished", "missing"]
    """`unfinished`: the job began, and no record has landed."""
    seconds: float | None = None
    """Wall time; null unless finished."""
    rows_in: int | None = None
    """Rows that the job read; null unless finished."""
    rows_out: dict[str, int] = Field(default_factory=dict)
    """Label (pool, split or drop reason) -> rows; {} unless finished."""
    warnings: tuple[str, ...] = ()
    """What a person should look at; see `warn_above` of the contract."""
    conserved: bool | None = None
    """Whether `rows_in` is the sum of `rows_out`; null unless finished."""


class JudgeSpending(Record):
    """What the judge cost."""

    cap: int | None
    """`budget.judge_tokens`; null = no cap."""
    paid: int
    """Tokens that the judge read and wrote."""


class Spending(Record):
    """What the models cost."""

    currency: str
    """Of the contract's `budget.price`; all money is in it."""
    cap: int | None
    """`budget.teacher_tokens`; null = no cap."""
    paid: int
    """Tokens, in and out, that teachers were paid for in this folder so far, whatever became of the answers."""
    in_rows: int | None
    """Those of the rows of `candidates`; null unless finished. More was paid where requests were in flight when a process died, or
    for another recipe; less where a ledger that runs share held answers."""
    teachers: tuple[TeacherCost, ...]
    judge: JudgeSpending


class StudentSeeds(Record):
    """The trainings of one student with several seeds."""

    name: str
    best: int
    """Seed of the exported model."""
    seeds: tuple[SeedMetrics, ...]
    spread: dict[str, Spread]
    """As in the metrics of the student's artifact."""


class StudentRounds(Record):
    """The rounds of one student on its own samples."""

    name: str
    rounds: tuple[RoundMetrics, ...]
    """Those that are finished."""
    of: int
    """Rounds that the contract orders."""
    outcome: OnPolicyMetrics | None = None
    """Null until the student is finished."""


class Status(Record):
    """How far a run is."""

    run: str
    """The folder or URL."""
    contract: str
    """The contract's name."""
    created: str
    """When `rayleigh run` first opened the folder, ISO 8601, UTC."""
    jobs: tuple[JobStatus, ...]
    """The jobs of the pipeline, in order."""
    spending: Spending
    failures: tuple[FailureReason, ...] = ()
    """The most frequent reasons of answers that were not accepted; () until `candidates` is finished."""
    judge: JudgeStatus | None
    """Null without a judge, or until `candidates` is finished."""
    seeds: tuple[StudentSeeds, ...] = ()
    """The finished students that were trained with several seeds."""
    rounds: tuple[StudentRounds, ...] = ()
    """The students that learn from their own samples, once a round is finished."""
