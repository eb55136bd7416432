"""What `rayleigh ablate` measured: `RUN/ablation/ablation.json`, its `--json`, and `ablation` in `report.json`."""

from engine.records.base import Record
from engine.records.estimate import Estimate


class Training(Record):
    """One training on a subset."""

    seed: int
    """Seed of the order of the examples."""
    exact_match: float
    """Share of the holdout that the student answers exactly."""


class SubsetResult(Record):
    """A subset of the answers, and how students do that learn from it."""

    name: str
    """Such as `all`, `rules`, `without grounded`, `judge`, `calibrated`, `evidence`."""
    what: str
    """Which answers pass, in words."""
    answers: int
    """Answers that pass."""
    prompts: int
    """Prompts of these answers."""
    left_out: str | None
    """Why no student was trained on it; null if some were."""
    runs: list[Training] | None = None
    """One training per seed; null if left out, as the fields below."""
    exact_match: Estimate | None = None
    """Mean exact match on the holdout; `n` is seeds times prompts."""
    against_all: Estimate | None = None
    """Paired difference to the subset `all`; null for that subset itself."""
    against_rules: Estimate | None = None
    """Paired difference to the subset `rules`; null for that subset itself, or if it was left out."""


class Ablation(Record):
    """Subsets of equal size, compared by training a student on each."""

    run: str
    """Run folder."""
    student: str
    """The student of the contract that was trained."""
    seeds: int
    """Trainings per subset."""
    epochs: int
    """Epochs of each training."""
    dataset: str
    """Fingerprint of the dataset whose prompts these are."""
    examples: int
    """Examples per subset; the share `curation.pick.validation` of them is the validation split."""
    prompts: int
    """Prompts of the holdout."""
    level: float
    """Confidence level of the intervals."""
    subsets: list[SubsetResult]
    """All subsets, also those that were left out."""
