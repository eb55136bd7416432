"""`rayleigh iterate`: why a round has the prompts that it has (`round.json`), and what it brought (`outcome.json`)."""

from pydantic import Field

from engine.records.base import Record
from engine.records.estimate import Estimate
from engine.records.gate import GateNumber, Word
from engine.records.worth import Signal
from engine.records.worth import Word as Advised


class WeakSlice(Record):
    """A part of the holdout that the student has not learnt as well as the rest, and the prompts that are added for it."""

    dimension: str
    """Column of the prompts; `all`: no part is weaker than the rest."""
    value: str
    """Its value; "" for `all`."""
    n: int
    """Holdout prompts."""
    errors: int
    """Prompts that the student gets wrong."""
    disagreements: int
    """Prompts to which student and teacher give different answers."""
    mendable: int
    """Prompts that the student gets wrong and its teacher right: what more answers of this teacher can mend."""
    excess: Estimate | None = None
    """Share of mendable prompts less that of all other prompts of the holdout; null for `all`, or with too few clusters."""
    wanted: int = 0
    """New prompts that it should get."""
    sampled: int = 0
    """Of them, unused rows of the sources."""
    written: int = 0
    """Of them, prompts that are to be written."""


class WrittenShare(Record):
    """Prompts that one method is asked to write for one layer."""

    name: str
    """Name of the synthesis in the round's contract."""
    layer: str
    wanted: int


class TrafficShare(Record):
    """What the records of requests gave."""

    folder: str
    """Of the records."""
    rows: int
    """Requests."""
    unsure: int
    """Of them, those that were abstained on or handed on, inside the niche."""
    with_text: int
    """Of them, those whose text was kept."""
    new: int
    """Different texts among them that are neither a known prompt nor one of the holdout."""
    chosen: int
    """Of them, those that became prompts."""


class RoundPlan(Record):
    """`round.json`: the lineage of a round, and what was chosen for it; written before the round begins, and never changed."""

    round: int
    """From 0."""
    before: str | None = None
    """Run folder of the round before; null for round 0."""
    before_fingerprint: str | None = None
    """Fingerprint of the report of the round before."""
    ordered: str = ""
    """Hash of the contract that the command was given, without `iterate` and `serving`."""
    student: str | None = None
    """The student of the round before in which weakness was looked for: the best one."""
    teacher: str | None = None
    """The teacher that it was compared with."""
    slices: tuple[WeakSlice, ...] = ()
    """Weakest first."""
    traffic: TrafficShare | None = None
    """Null without records."""
    written: tuple[WrittenShare, ...] = ()
    """What each method is asked to write."""
    unfilled: int = 0
    """Prompts that were wanted and for which there was neither a row of a source nor a method."""
    begins: dict[str, str] = Field(default_factory=dict)
    """Student -> fingerprint of the release that it goes on from; the others begin as in round 0."""
    level: float | None = None
    """Level of the gate's tests in this round; null: by point values."""
    created: str = ""
    """ISO 8601, UTC."""

    @property
    def chosen(self) -> int:
        """Prompts that the round should get, of all kinds."""
        sampled = sum(each.sampled for each in self.slices)
        return sampled + (self.traffic.chosen if self.traffic else 0) + sum(each.wanted for each in self.written)


class RoundOutcome(Record):
    """`outcome.json`: what a round brought. It is written when the round has ended, and never changed."""

    round: int
    run: str
    """Run folder."""
    prompts: int
    """Training prompts, those of earlier rounds included."""
    added: dict[str, int] = Field(default_factory=dict)
    """`sources`, `traffic` or `synthesize/NAME` -> prompts that this round added."""
    copies: Estimate | None = None
    """Share of the round's valid new rows that were copies of known prompts, of the holdout or of each other; null in round 0."""
    examples: int
    """Training examples."""
    student: str | None
    """The best student of the round's report; null if none could be evaluated."""
    exact_match: Estimate | None = None
    """Its exact match on the holdout."""
    gain: Estimate | None = None
    """Its exact match less that of the same student in the round before, on the same prompts; null in round 0."""
    champion: str | None = None
    """Fingerprint of the champion that the gate compared with; null: there was none."""
    against_champion: GateNumber | None = None
    """The gate's requirement `champion` for the student; null without a champion, or if it is not required."""
    word: Word | None = None
    """The gate's word on the student that is promoted, or else on `student`."""
    promoted: str | None = None
    """Student or export that became the champion; null: the champion stays."""
    refusal: str = ""
    """Why nothing was promoted; "" if something was."""
    paid_tokens: int = 0
    """Teacher tokens paid in this round."""
    judge_tokens: int = 0
    """Judge tokens paid in this round."""
    cost: float = 0.0
    """What this round cost, in the contract's currency: answers that earlier rounds paid for and labels are not counted again."""
    currency: str = ""
    signals: tuple[Signal, ...] = ()
    """Of the report."""
    advice: Advised = "unknown"
    """What the report advises."""
    why: tuple[str, ...] = ()
    """Its reasons."""
    worth: float = 0.01
    """`evaluation.worth`: the least gain that is worth a round."""


class Rounds(Record):
    """What `rayleigh iterate --json` prints."""

    root: str
    """Folder of the rounds."""
    contract: str
    """Name of the contract."""
    registry: str
    """Folder of champions."""
    plans: tuple[RoundPlan, ...]
    outcomes: tuple[RoundOutcome, ...]
    ended: str
    """Why there is no further round."""
