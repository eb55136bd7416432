"""What `rayleigh plan --json` prints: the expected size and cost of a run, extrapolated from a pilot."""

from engine.records.base import Record
from engine.records.candidates import FailureReason


class Range(Record):
    """An expected number; both ends equal the value where it was counted."""

    value: float
    """The number itself."""
    low: float
    """Lower end of the interval over the drawn prompts."""
    high: float
    """Upper end of it."""


class PilotSummary(Record):
    """The prompts that were answered for the plan."""

    prompts: int
    """Prompts that were drawn and answered."""
    of: int
    """Prompts of the whole run."""
    answers: int
    """Answers to the drawn prompts."""
    seconds: float
    """Wall time: loading the models, answering and judging."""
    tokens: int
    """Tokens in and out of the answers."""
    failures: tuple[FailureReason, ...] = ()
    """The most frequent reasons of its answers that were not accepted."""


class JobPlan(Record):
    """What one job is expected to take; null where a pilot cannot tell."""

    name: str
    """Name of the job."""
    rows: Range | None = None
    """Rows that the job reads, or examples of a student."""
    tokens_in: Range | None = None
    """Prompt tokens of the teachers."""
    tokens_out: Range | None = None
    """Tokens that the teachers write."""
    seconds: Range | None = None
    """Wall time."""
    money: Range | None = None
    """Price in the currency of the report."""
    bytes: Range | None = None
    """Size on disk."""
    basis: str
    """How the numbers were found, in words."""


class ConsumerPlan(Record):
    """What one consumer of a paid model is expected to use."""

    kind: str
    """synthesis, teacher, judge, signals or repair."""
    name: str
    """Name under which its tokens are noted."""
    job: str
    """Job that asks the model."""
    cap: str
    """Key of `budget` that limits it."""
    tokens: Range | None
    """Tokens in and out; null where nothing is known."""
    basis: str
    """How the number was found, in words."""


class CapPlan(Record):
    """How far `budget.teacher_tokens` reaches."""

    teacher_tokens: int
    """The cap."""
    paid: int
    """Tokens paid so far in the run folder."""
    prompts: Range | None
    """Prompts that the cap suffices for."""


class RequirementPower(Record):
    """What the holdout can prove of one requirement of the gate; null where that cannot be known before a report."""

    requirement: str
    """Name, such as `retention` or `beats rules`."""
    wanted: float
    """Threshold of the contract."""
    at_most: bool = False
    """Whether the threshold is an upper limit."""
    rows: int = 0
    """Prompts (or fields left null) that it is measured on."""
    clusters: int = 0
    """Their clusters."""
    design_effect: float = 1.0
    """Prompts that say as much as one independent prompt."""
    detectable: float | None = None
    """True value from which on a student passes with probability `gate.power`."""
    true: float | None = None
    """True value that should be told from the threshold: `gate.detect` away from it."""
    needed: int | None = None
    """Independent prompts that this takes with probability `gate.power`; null = more than anyone would collect."""
    needed_rows: int | None = None
    """Prompts that this takes if they cluster as those of the holdout."""
    is_enough: bool = False
    """Whether the holdout has as many."""
    basis: str = ""
    """What was assumed, in words."""


class PlanReport(Record):
    """The expected size and cost of a run."""

    run: str
    """Run folder."""
    contract: str
    """Name of the contract."""
    currency: str
    """Currency of all money."""
    pilot: PilotSummary
    """What the plan was extrapolated from."""
    level: float
    """Confidence level of the intervals."""
    jobs: tuple[JobPlan, ...]
    """Every job, in the order of the pipeline."""
    total: dict[str, Range | None]
    """tokens_in, tokens_out, seconds, money and bytes: sums over the jobs for which they are known, null without one. The ends are
    sums of ends, so the true intervals are narrower."""
    consumers: tuple[ConsumerPlan, ...]
    """Every consumer of a paid model."""
    cap: CapPlan | None
    """Null without a cap."""
    power: tuple[RequirementPower, ...] = ()
    """What the holdout can prove of each requirement of the gate."""
    gate_level: float = 0.05
    """`gate.level`: the risk of passing a student that does not meet a requirement."""
    gate_power: float = 0.8
    """`gate.power`: the probability of passing one at the detectable value."""
