"""The section `judges.pools`: routing rules, confidence tiers, and how the answers of several teachers are related."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import model_validator

from engine.contract.base import Name, Section, Share, distinct

Pool = Literal["train", "hard", "contrast", "refusal", "review", "failure"]
FinishReason = Literal["stop", "length", "refused", "too_long", "error", "unrouted", "budget_exhausted"]
Difficulty = Literal["easy", "medium", "hard"]
Relation = Literal["agree", "complementary", "conflicting", "unrelated"]
TRAINING_POOLS = ("train", "hard", "refusal")
"""Pools that students may be trained on. Only a sound answer, one that finished and passed every check, may go there."""


class Band(Section):
    """The numbers from `min`, inclusive, to `below`, exclusive. An unknown number is in no band."""

    min: Share | None = None
    below: Share | None = None

    @model_validator(mode="after")
    def is_not_empty(self) -> "Band":
        if self.min is None and self.below is None:
            raise ValueError("found neither `min` nor `below`, expected one of them or both")
        if self.min is not None and self.below is not None and self.min >= self.below:
            raise ValueError(f"found min {self.min} and below {self.below}, expected a smaller `min`")
        return self

    def __contains__(self, value: float | None) -> bool:
        """Return whether `value` is in the band."""
        return value is not None and (self.min is None or value >= self.min) and (self.below is None or value < self.below)


class When(Section):
    """Conditions on an answer. All that are given must hold."""

    failed: tuple[str, ...] = ()
    """Tags of failed checks, of which one is enough; `*` means any."""
    finish_reason: tuple[FinishReason, ...] = ()
    difficulty: tuple[Difficulty, ...] = ()
    relation: tuple[Relation, ...] = ()
    """How the answers of the prompt's teachers relate."""
    abstains: bool | None = None
    """Whether every field of the answer's form is null."""
    confidence: Band | None = None
    """Holds for no answer while the judge does not decide."""
    agreement: Band | None = None
    """Share of the teacher's samples with the same answer."""
    rubric_spread: Band | None = None
    """Largest less smallest score of the rubrics."""

    @model_validator(mode="after")
    def has_a_condition(self) -> "When":
        if all(getattr(self, name) in (None, ()) for name in type(self).model_fields):
            raise ValueError("found no condition, expected at least one; the built-in rules handle everything else")
        return self


class Rule(Section):
    """One rule of the contract's list; the first that holds decides."""

    when: When
    to: Pool
    reason: Name
    """Recorded among the answer's reasons as `rule:NAME`."""

    @model_validator(mode="after")
    def trains_on_sound_answers_only(self) -> "Rule":
        if self.to in TRAINING_POOLS and (self.when.failed or set(self.when.finish_reason) - {"stop"}):
            raise ValueError(
                f"to: found {self.to} for answers that failed a check or did not finish, expected contrast, review or failure"
            )
        return self


class Relations(Section):
    """How the answers of several teachers to one prompt are compared."""

    conflicts: Literal["review", "keep"] = "review"
    """Pool of accepted answers that contradict another teacher's. In mode `competition` the judge decides instead."""
    merge: bool = False
    """Merge accepted answers that complement each other into one; it goes to `train`, its parents to `contrast`."""
    similar: Share = 0.5
    """Share of common words (Jaccard index) from which two sentences are about the same thing."""
    unrelated: Share = 0.1
    """Share of common words below which two texts are unrelated."""


class Pools(Section):
    """Routing rules that precede the built-in ones, confidence tiers, and relations between teachers."""

    rules: Annotated[tuple[Rule, ...], distinct("reason")] = ()
    confidence_tiers: tuple[Share, ...] = ()
    """Falling confidences: an answer at or above the first is in tier 0, at or above the second in tier 1, and so on."""
    relations: Relations = Relations()

    @model_validator(mode="after")
    def confidence_tiers_fall(self) -> "Pools":
        if any(above <= below for above, below in pairwise(self.confidence_tiers)):
            raise ValueError(
                f"confidence_tiers: found {list(self.confidence_tiers)}, expected falling numbers, the highest confidence first"
            )
        return self
