"""What `rayleigh ablate --buckets` measured: `RUN/ablation/buckets.json`, its `--json`, `worth.attribution` in `report.json`."""

from typing import Literal

from engine.records.base import Record
from engine.records.estimate import Estimate

Verdict = Literal["helps", "hurts", "adds_nothing", "unclear", "left_out"]


class BucketEffect(Record):
    """A bucket of the examples, and what it is worth to the student."""

    kind: str
    """teacher, pool, tier, synthesis, contrastive, target or representation."""
    value: str
    """Which one, such as the name of a teacher."""
    what: str
    """Its examples, in words."""
    examples: int
    """Its examples in the dataset."""
    left_out: str | None = None
    """Why no student was trained without it; null if some were."""
    size: int | None = None
    """Examples of each training without it, and of those that it is compared with; null if left out, as the fields below."""
    exact_match: Estimate | None = None
    """Mean exact match on the holdout of the students trained without it; `n` is seeds times prompts."""
    effect: Estimate | None = None
    """Exact match with it less that without it, paired, at `level`."""
    level: float | None = None
    """Confidence level of `effect`, corrected for the number of buckets."""
    p_value: float | None = None
    """Two-sided, of no effect, before the correction."""
    verdict: Verdict = "unclear"
    """`helps`, `hurts`: the interval of the effect excludes 0. `adds_nothing`: its upper end is below `worth`. Else `unclear`."""


class Control(Record):
    """Students that were trained on examples of all buckets."""

    size: int
    """Examples of each training, drawn by hash."""
    exact_match: Estimate | None
    """Mean exact match on the holdout; null with fewer than 5 clusters of prompts."""


class Attribution(Record):
    """The buckets of the examples, each left out in turn."""

    run: str
    """Run folder."""
    student: str
    """The student of the contract that was trained."""
    seeds: int
    """Trainings per bucket."""
    epochs: int
    """Epochs of each training."""
    dataset: str
    """Fingerprint of the dataset whose examples these are."""
    examples: int
    """Examples of the dataset."""
    prompts: int
    """Prompts of the holdout."""
    clusters: int
    """Their scenarios; a prompt without one counts by itself."""
    level: float
    """Confidence that no bucket is accused or praised wrongly."""
    correction: str = "holm"
    """How the level is corrected for the number of buckets."""
    worth: float
    """`evaluation.worth` of the contract."""
    controls: list[Control]
    """What the buckets are compared with, one for each size."""
    buckets: list[BucketEffect]
    """All buckets, also those that were left out."""
