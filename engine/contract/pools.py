"""Room 3: where answers go, by rules of the contract before the built-in ones, and how sure each is."""

from itertools import pairwise
from typing import Literal

from pydantic import model_validator

from engine.contract.base import Name, Section, Share

Pool = Literal["train", "hard", "contrast", "refusal", "review", "failure"]
FinishReason = Literal["stop", "length", "refused", "too_long", "error", "unrouted", "budget_exhausted"]
Difficulty = Literal["easy", "medium", "hard"]
Relation = Literal["agree", "complementary", "conflicting", "unrelated"]
LEARNT = ("train", "hard", "refusal")
"""Pools that students may learn from: only a sound answer, one that ended by itself and passed every check, goes there."""


class Band(Section):
    """From `least`, which is in, to `below`, which is not. A number that is not known is in no band."""

    least: Share | None = None
    below: Share | None = None

    @model_validator(mode="after")
    def holds_something(self) -> "Band":
        if self.least is None and self.below is None:
            raise ValueError("found neither `least` nor `below`, expected one of them or both")
        if self.least is not None and self.below is not None and self.least >= self.below:
            raise ValueError(f"found least {self.least} and below {self.below}, expected a smaller `least`")
        return self

    def __contains__(self, value: float | None) -> bool:
        """Return whether `value` is in the band."""
        return value is not None and (self.least is None or value >= self.least) and (self.below is None or value < self.below)


class When(Section):
    """What must hold of an answer; all that is named must."""

    failed: tuple[str, ...] = ()
    """Tags of failed checks, of which one is enough; `*` stands for any."""
    finish_reason: tuple[FinishReason, ...] = ()
    difficulty: tuple[Difficulty, ...] = ()
    relation: tuple[Relation, ...] = ()
    """What the prompt's teachers say, beside each other."""
    abstains: bool | None = None
    """Whether every field of the answer's form is null."""
    confidence: Band | None = None
    """Holds for no answer while the judge may annotate only."""
    agreement: Band | None = None
    """Share of the teacher's samples that say the same."""
    rubric_spread: Band | None = None
    """Between the rubrics."""

    @model_validator(mode="after")
    def names_something(self) -> "When":
        if all(getattr(self, name) in (None, ()) for name in type(self).model_fields):
            raise ValueError("found no condition, expected at least one: the built-in rules are for everything else")
        return self


class Rule(Section):
    """One rule of the contract's list; the first that holds decides."""

    when: When
    to: Pool
    reason: Name
    """Stands among the answer's reasons as `rule:NAME`."""

    @model_validator(mode="after")
    def learns_only_what_is_sound(self) -> "Rule":
        if self.to in LEARNT and (self.when.failed or set(self.when.finish_reason) - {"stop"}):
            raise ValueError(f"to: found {self.to} for answers that failed or did not end, expected contrast, review or failure")
        return self


class Relations(Section):
    """What several teachers say to one prompt, beside each other."""

    conflicts: Literal["review", "keep"] = "review"
    """Where answers go that would be accepted but contradict another teacher's. In mode `competition` the judge decides instead."""
    merge: bool = False
    """Make one answer of accepted ones that complete each other; it goes to `train`, what it is made of to `contrast`."""
    similar: Share = 0.5
    """Share of common words from which two sentences speak of the same."""
    unrelated: Share = 0.1
    """Share of common words below which two texts have nothing to do with each other."""


class Pools(Section):
    """Routing rules before the built-in ones, tiers of confidence, and how teachers are compared."""

    rules: tuple[Rule, ...] = ()
    tiers: tuple[Share, ...] = ()
    """Falling confidences: from the first on an answer is in tier 0, from the second on in tier 1, and so on; 0 is the surest."""
    relations: Relations = Relations()

    @model_validator(mode="after")
    def tiers_fall(self) -> "Pools":
        if any(above <= below for above, below in pairwise(self.tiers)):
            raise ValueError(f"tiers: found {list(self.tiers)}, expected falling numbers, the highest confidence first")
        return self

    @model_validator(mode="after")
    def reasons_are_told_apart(self) -> "Pools":
        names = [rule.reason for rule in self.rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"rules: found {twice} as the reason of several rules, expected a name for each")
        return self
