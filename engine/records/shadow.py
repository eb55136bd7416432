"""The comparison of a challenger in shadow: counts that can be gone on with, and what they say."""

from typing import Literal

from engine.records.base import Record
from engine.records.estimate import Estimate

ShadowWord = Literal["keep watching", "promote", "refuse"]
"""promote: proven to be above the floor, and not worse than the champion; refuse: proven to be below, or worse."""


class ShadowState(Record):
    """Counts of paired requests so far; everything that the test needs to go on after a restart."""

    challenger: str = ""
    """Fingerprint of the challenger."""
    champion: str = ""
    """Fingerprint of the champion; empty without one."""
    reference: str = ""
    """Fingerprint of whose answer counts as right."""
    pairs: int = 0
    """Requests to which reference and challenger gave an answer, or the challenger alone failed."""
    agreed: int = 0
    """Of these, those on which the challenger gave the reference's answer."""
    failed: int = 0
    """Of these, those on which the challenger failed; they count as disagreements."""
    unpaired: int = 0
    """Requests without an answer of the reference; they count for nothing."""
    wins: int = 0
    """Pairs with a champion's answer on which the challenger alone agreed."""
    losses: int = 0
    """Pairs on which the champion alone agreed."""
    ties: int = 0
    """Pairs on which both agreed, or neither."""
    word: ShadowWord = "keep watching"
    """What was decided; once it is `promote` or `refuse` it stays."""
    because: str = ""
    """Why, in a sentence."""
    decided_at: int | None = None
    """Pair at which it was decided."""
    version: int = 1
    """Version of this layout."""


class ShadowView(Record):
    """What the comparison says now."""

    word: ShadowWord
    because: str
    agreement: Estimate | None = None
    """Agreement with the reference, with the confidence sequence of level 1 - delta: it holds at all times together."""
    e_above: float = 1.0
    """e-value against "the agreement is at most the floor"."""
    e_below: float = 1.0
    """e-value against "the agreement is at least the floor"."""
    e_beside: float | None = None
    """e-value against "the challenger is worse than the champion by the margin or more"; null without a champion."""
    e_worse: float | None = None
    """e-value against "the challenger is worse than the champion by less than the margin"."""
    pairs: int = 0


class ShadowKept(Record):
    """What a server keeps of a comparison between two starts."""

    state: ShadowState = ShadowState()
    reported: str = ""
    """The word of the last event in the registry; empty before the first."""


class ShadowEvent(Record):
    """A comparison in shadow began, or decided: `<registry>/<contract>/shadow/<number>.json`. It changes no champion."""

    id: str
    """12 hexadecimal digits."""
    contract: str
    """Name of the contract."""
    time: str
    """ISO 8601, UTC."""
    word: ShadowWord
    """What was decided; `keep watching`: the comparison began."""
    because: str = ""
    """Why, in a sentence."""
    agreement: Estimate | None = None
    """Share of answers that are the reference's, with its confidence sequence."""
    state: ShadowState = ShadowState()
    """The counts, and the fingerprints of challenger, champion and reference."""
    floor: float
    """Share of answers that must agree."""
    margin: float
    delta: float
    who: str | None = None
    """User and host."""
