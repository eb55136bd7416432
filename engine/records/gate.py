"""Tests of the gate's requirements (`models[].tests` of report.json), and its decision (`gate`)."""

from typing import Literal

from pydantic import Field

from engine.records.base import Record

BEATS, TWIN = "beats ", "beside "
"""Beginnings of names of requirements; the name of a baseline or of a student follows."""
EXAMINED, CHAMPION, SLICES = "examined", "champion", "slices"
"""Names of requirements."""
AT_MOST = frozenset({"ece", "p95_ms", "cost_per_1000_accepted", "parameters", "weight_bytes"})
"""Requirements whose threshold is an upper limit; the others are lower limits."""
UNHELD = frozenset({EXAMINED, "p95_ms", "parameters", "weight_bytes"})
"""Requirements that do not read the answers to the holdout."""
POINT = "Decided by point values: the measured numbers are compared with the contract, however uncertain they are."
Word = Literal["pass", "refuse", "undecided"]
"""pass: proven to be met; refuse: proven to be missed, or not measured; undecided: this holdout shows neither."""


class RequirementTest(Record):
    """One requirement of the gate against one model, tested on the holdout."""

    wanted: float = 0.0
    """Threshold of the contract."""
    value: float | None = None
    """Measured value."""
    low: float | None = None
    """Lower end of the interval of level 1 - 2 x `gate.level`: what a one-sided test at that level does not exclude."""
    high: float | None = None
    """Upper end of it."""
    n: int = 0
    """Items that it was measured on: prompts, stated fields, timed requests."""
    clusters: int = 0
    """Clusters of these items, which are independent."""
    design_effect: float = 1.0
    """Items that say as much as one independent item."""
    icc: float | None = None
    """Intra-cluster correlation that the design effect rests on; null if every item is its own cluster, or it was not computed."""
    p_pass: float = 1.0
    """Probability of a value as good as this, or better, if the requirement is just not met."""
    p_refuse: float = 1.0
    """Probability of a value as bad as this, or worse, if the requirement is just met."""
    null_spread: float | None = None
    """Standard deviation that one independent item contributes to the value, if the true value is the threshold."""
    spread: float | None = None
    """The same, if the true value is the measured one."""
    more: int | None = None
    """Further independent prompts that would decide with probability `gate.power`, if the true value is the measured one."""
    method: str = ""
    """How it was tested."""
    detail: str = ""
    """What else there is to know, such as the slices that are worse."""


class GateNumber(Record):
    """One requirement of the contract's gate against one student."""

    number: str
    """Name of the requirement, such as `retention` or `beats rules`."""
    found: float | None = None
    """Measured value; null if the report has no such number, which refuses the student."""
    low: float | None = None
    """Lower end of its interval."""
    high: float | None = None
    """Upper end of its interval."""
    wanted: float = 0.0
    """Threshold of the contract."""
    at_most: bool = False
    """Whether the threshold is an upper limit."""
    passed: bool = False
    """Whether the requirement is met; by `prove`, whether that is proven."""
    word: Word | None = None
    """null: decided by the point value."""
    n: int = 0
    """Items that it was measured on; 0 if it was not tested."""
    clusters: int = 0
    """Clusters of these items."""
    design_effect: float = 1.0
    """Items that say as much as one independent item."""
    p: float | None = None
    """p-value of the test that the word rests on: of passing, or of refusing if the word is refuse."""
    more: int | None = None
    """Undecided: further independent prompts that would decide it, if the value is the measured one; null = not even 100,000."""
    method: str = ""
    """How it was tested."""
    detail: str = ""
    """What else there is to know."""


class Confirmation(Record):
    """The part of the holdout that was opened for the chosen student alone (`gate.confirm`)."""

    student: str
    """The chosen student."""
    rows: int
    """Prompts of the part."""
    clusters: int
    """Their clusters."""
    looks: int = 1
    """How often this part was opened for a student so far, this time included; each look but the first makes its word less sure."""
    numbers: tuple[GateNumber, ...] = ()
    """Every requirement, measured on this part alone."""
    word: Word = "undecided"
    """What the part says."""

    @property
    def sentence(self) -> str:
        """What the part says, and how fresh it is."""
        looks = "the first look at it" if self.looks == 1 else f"look {self.looks} at it, so less sure than it says"
        return f"Confirmation on {self.rows} prompts, {looks}: {self.student} is {self.word}."


class GateDecision(Record):
    """Which students meet the contract."""

    passing: tuple[str, ...] = ()
    """Students and exports that pass, smallest first, by the bytes of their weights."""
    refusals: dict[str, tuple[GateNumber, ...]] = Field(default_factory=dict)
    """Student -> requirements that it misses; only students that miss one."""
    undecided: dict[str, tuple[GateNumber, ...]] = Field(default_factory=dict)
    """Student that is neither passed nor refused -> its undecided requirements; none if a larger student stopped the sequence."""
    numbers: dict[str, tuple[GateNumber, ...]] = Field(default_factory=dict)
    """Student -> every requirement."""
    winner: str | None = None
    """The passing student or export that is promoted: the smallest, or what `gate.choose` says."""
    by: Literal["prove", "point"] = "point"
    """How it was decided; files without the key were decided by point values."""
    level: float | None = None
    """Probability, at most, of passing a student that does not meet the requirements; null by point values."""
    words: dict[str, Word] = Field(default_factory=dict)
    """Student -> word."""
    because: dict[str, str] = Field(default_factory=dict)
    """Student -> why its word is not that of its requirements, in a sentence."""
    confirmation: Confirmation | None = None
    """null without `gate.confirm`, or if no student was chosen."""
