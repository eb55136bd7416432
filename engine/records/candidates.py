"""Metrics of the job `candidates`."""

from pydantic import AliasChoices, Field

from engine.records.base import Record
from engine.records.judge import JudgeMetrics


class TeacherSpending(Record):
    """What one teacher used, and how many of its answers were accepted."""

    answers: int = 0
    """Answers that were paid for."""
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    """Time of its engines."""
    accepted: int = 0
    """Answers in the pools `train` and `refusal`."""
    budget_exhausted: int = Field(default=0, validation_alias=AliasChoices("budget_exhausted", "unpaid"))
    """Answers that were not asked, because the token budget was spent."""
    machine_seconds: float = 0.0
    """`seconds` on machines of ours, of engines that share one each its part; 0 for a teacher behind an endpoint."""


class TeacherCost(Record):
    """What an accepted answer of one teacher costs."""

    teacher: str
    answers: int
    """Answers that were paid for."""
    tokens_in: int
    tokens_out: int
    money: float
    """Tokens at the teacher's price, and seconds of our machines at theirs, in `budget.price.currency`."""
    accepted: int
    """Answers in the pools `train` and `refusal`."""
    picked: int | None
    """Answers that became examples; null until `dataset` is finished."""
    budget_exhausted: int
    """Answers that were not asked, because the token budget was spent."""
    tokens_per_accepted: float | None
    """Null if no answer was accepted."""
    money_per_accepted: float | None
    """Null if no answer was accepted."""


class FailureReason(Record):
    """Why answers were not accepted, with one of them."""

    pool: str
    """Pool of the answers: none of `train` and `refusal`."""
    reason: str
    """Reason tags; of an error its words, too, with numbers, ids, URLs and quoted texts replaced."""
    answers: int
    """Answers with this reason."""
    answer_id: str
    """One of them."""
    prompt_id: str
    """Its prompt."""
    text: str
    """The first characters of that prompt."""
    words: str
    """The error of that answer, else what its failed checks say, else how it begins."""


class CandidatesMetrics(Record):
    """Metrics of the job `candidates`."""

    tokens_out: int = 0
    """Tokens of all answers."""
    judge: JudgeMetrics | None = None
    """Calibration and audit of the judge; null without a judge."""
    judge_tokens: dict[str, int] = Field(default={})
    """Rubric, or `signals` -> tokens in and out that this job paid for; what the ledger already held is not in it."""
    teachers: dict[str, TeacherSpending] = Field(default={})
    """Teacher -> its usage."""
    relations: dict[str, int] = Field(default={})
    """Relation between a prompt's teachers -> prompts."""
    confidence_tiers: dict[str, int] = Field(default={}, validation_alias=AliasChoices("confidence_tiers", "tiers"))
    """Confidence tier -> answers."""
    failures: tuple[FailureReason, ...] = ()
    """The most frequent reasons of answers that were not accepted, most frequent first; at most 50."""
    merged: int = 0
    """Answers that were merged from complementary ones."""
