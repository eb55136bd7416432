"""Rows of the views of `rayleigh sql` that are made of records: one row a run, model, teacher, label, event, withdrawal."""

from engine.records.base import Record


class RunRow(Record):
    """One run folder."""

    run: str
    """Name of the run folder, as in the column `run` of all tables."""
    folder: str
    """Path or URL."""
    contract: str
    """Name of the contract."""
    created: str
    """ISO 8601, UTC."""
    profile: str
    """Name of the profile that it ran on."""
    jobs_finished: int
    seconds: float
    """Wall time of the finished jobs together."""
    gate_by: str | None
    """How the gate decided: prove or point; null without a report, as all that follows."""
    winner: str | None
    """Student that the gate chooses; null if it chooses none."""
    undecided: int | None
    """Students that are neither passed nor refused."""
    holdout_rows: int | None
    """Prompts of the holdout."""
    commit: str | None
    """Commit of the code that made the last finished artifact."""


class ModelRow(Record):
    """One evaluated model of a report."""

    run: str
    model: str
    role: str
    """teacher, student, champion or baseline."""
    parameters: int | None
    weight_bytes: int | None
    """Size of its files of weights."""
    exact_match: float | None
    """Share of holdout prompts answered exactly as the reference."""
    exact_low: float | None
    """Lower end of its confidence interval."""
    exact_high: float | None
    """Upper end of its confidence interval."""
    exact_unseen: float | None
    """Exact match on scenarios that never occur in training."""
    retention: float | None
    """Exact match over that of the best teacher."""
    retention_low: float | None
    retention_high: float | None
    ece: float | None
    """Expected calibration error."""
    p50_ms: float | None
    """Median latency of one prompt alone, milliseconds."""
    p95_ms: float | None
    """95th percentile of the latency, milliseconds."""
    per_1000_accepted: float | None
    """Price of 1,000 right answers in the contract's currency, with fallbacks."""
    word: str | None
    """The gate's word: pass, refuse or undecided; null if it decides nothing on the model."""
    is_winner: bool
    """Whether the gate chooses it."""


class CostRow(Record):
    """What one teacher of a run cost."""

    run: str
    teacher: str
    answers: int
    """Answers that were paid for."""
    tokens_in: int
    tokens_out: int
    money: float
    """Tokens at the teacher's price, and seconds of own machines at theirs."""
    currency: str
    accepted: int
    """Answers in the pools `train` and `refusal`."""
    picked: int | None
    """Answers that became examples."""
    money_per_accepted: float | None


class LabelRow(Record):
    """A person's label of an answer (`rayleigh review import`)."""

    run: str
    answer_id: str
    label: str
    """right, wrong or corrected."""
    correction: str | None
    """The right answer that the person wrote."""


class EventRow(Record):
    """One promotion or rollback of the registry."""

    contract: str
    id: str
    time: str
    """ISO 8601, UTC."""
    kind: str
    """promote or rollback."""
    student: str
    """Champion after the event."""
    fingerprint: str
    """Fingerprint of the student's artifact."""
    from_student: str | None
    """Rollback: the champion before it."""
    word: str | None
    """Promotion: the gate's word."""
    by: str | None
    """Promotion: prove or point."""
    why: str | None
    """Reason that a person gave for promoting an undecided student."""
    who: str | None
    """User and host."""
    is_champion: bool
    """Whether this event made the current champion."""


class WithdrawalRow(Record):
    """Rows that may not be used any more."""

    id: str
    time: str
    """ISO 8601, UTC."""
    field: str
    """prompt, source or licence."""
    value: str
    why: str
    who: str | None


class LearntRow(Record):
    """A prompt that a release learnt from."""

    contract: str
    student: str
    fingerprint: str
    """Fingerprint of the release."""
    is_champion: bool
    """Whether it is the champion of its contract."""
    prompt_id: str
    source: str | None
    line: int | None
    licence: str | None
