"""Section `gate`: what a student must reach to be promoted, and how sure that must be.

Keys that were added later are left out of dumps while they have their default, so that older recipes keep their hashes.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from engine.contract.base import Name, Positive, Section, Share

Risk = Annotated[float, Field(gt=0, lt=0.5)]
"""A probability of being wrong that one may choose to accept."""


def _added(default: Any) -> Any:
    """Return a field that is left out of dumps while it has its `default`."""
    return Field(default=default, exclude_if=lambda value: value == default)


class HurtBy(Section):
    """Refuses students that their objectives have made worse than plain supervised fine-tuning would have."""

    twins: dict[Name, Name] = Field(min_length=1)
    """Student -> a student of this contract that differs from it by its objectives alone: `sft: 1`."""
    at_most: Share = 0.02
    """Exact match on the holdout by which the student may be below its twin, on the same prompts."""


class Slices(Section):
    """Refuses students that are worse than the champion on a part of the holdout.

    A search for harm, not a proof of its absence: a slice that is too small shows nothing.
    """

    rows: Positive = 30
    """Prompts that a slice of `evaluation.slices` must have to be tested."""
    rate: Risk = 0.05
    """False discovery rate over the slices (Benjamini and Hochberg, Journal of the Royal Statistical Society B 57, 1995)."""


class Gate(Section):
    """Requirements for promotion; null = not required. Each is tested at `level`: it is proven (pass), disproven (refuse) or open
    (undecided). All requirements must pass, so none needs a correction for the others (Berger, Technometrics 24, 1982)."""

    retention: Share | None = None
    """Exact match over the teacher's: at least this."""
    retention_unseen: Share | None = None
    """The same on scenarios that never occur in training: at least this."""
    exact_match: Share | None = None
    """Share of answers equal to the reference: at least this."""
    schema_validity: Share | None = None
    """Share of answers that fit the JSON schema: at least this."""
    abstain_precision: Share | None = None
    """Of the fields left null, the share that the prompt does not state: at least this."""
    abstain_recall: Share | None = None
    """Of the fields that the prompt does not state, the share left null: at least this."""
    ece: Share | None = None
    """Expected calibration error: at most this."""
    p95_ms: float | None = Field(default=None, gt=0)
    """95th percentile of latency, milliseconds: at most this."""
    beats: tuple[str, ...] = ()
    """Baselines that a student must beat: the paired difference in exact match must be above 0."""
    hurt_by: HurtBy | None = _added(None)
    """Limit of what distillation or preferences may cost; null = none."""
    champion: Share | None = _added(None)
    """Exact match by which the student may be below the champion, on the same prompts. Without a champion nothing is required."""
    slices: Slices | None = _added(None)
    """Slices on which the student may not be worse than the champion. Without a champion nothing is required."""
    cost_per_1000_accepted: Annotated[float, Field(gt=0)] | None = _added(None)
    """Price of 1,000 right answers, with fallbacks to the teacher and corrections (`budget.price.per_correction`): at most this."""
    parameters: Positive | None = _added(None)
    """Parameters, tied weights counted once: at most this."""
    weight_bytes: Positive | None = _added(None)
    """Bytes of the files of weights: at most this."""
    by: Literal["prove", "point"] = _added("prove")
    """`prove`: a requirement passes if it is proven at `level`. `point`: if the measured value meets it, however uncertain it is;
    with several students and few prompts, one that is too weak passes more often than not."""
    level: Risk = _added(0.05)
    """Probability, at most, of passing a student that does not meet the requirements; one-sided."""
    students: Literal["fixed_sequence", "holm"] = _added("fixed_sequence")
    """How several students share `level`. `fixed_sequence`: they are tested from the largest to the smallest, each at `level`, up
    to the first that does not pass. `holm`: in any order, the surest at `level` / students, the next at `level` / (students - 1)
    and so on."""
    choose: Literal["smallest", "cheapest_per_accepted"] = _added("smallest")
    """Which of the passing students is promoted: the one with the fewest bytes of weights, or with the lowest price of 1,000 right
    answers."""
    confirm: Annotated[float, Field(gt=0, lt=1)] | None = _added(None)
    """Share of the holdout's clusters that is kept closed and opened for the chosen student alone, which must pass there, too. How
    often it was opened is counted in the registry. null = no such part."""
    detect: Annotated[float, Field(gt=0, lt=1)] = _added(0.05)
    """Distance from a requirement at which a student should be told from it: `rayleigh plan` says how many prompts that takes."""
    power: Annotated[float, Field(gt=0.5, lt=1)] = _added(0.8)
    """Probability with which a student at that distance should be decided."""

    @model_validator(mode="after")
    def confirmation_is_tested(self) -> "Gate":
        if self.confirm and self.by == "point":
            raise ValueError("confirm: needs by: prove, found by: point, which proves nothing; use prove, or leave confirm out")
        return self
