"""What `rayleigh ablate --curve` measured: `RUN/ablation/curve.json`, its `--json`, and `worth.curve` in `report.json`."""

from engine.records.ablation import Training
from engine.records.base import Record
from engine.records.estimate import Estimate


class CurvePoint(Record):
    """Students that were trained on a share of the examples."""

    share: float
    """Share of the dataset's examples."""
    examples: int
    """Examples of each training; each seed draws its own."""
    runs: list[Training]
    """One training per seed."""
    exact_match: Estimate | None
    """Mean exact match on the holdout; null with fewer than 5 clusters of prompts."""
    errors_shared: Estimate | None = None
    """Of the teacher's wrong answers on the holdout, the share that the students give, too; null without a report, or with few."""


class LearningCurve(Record):
    """Exact match against the number of examples, by one recipe."""

    run: str
    """Run folder."""
    student: str
    """The student of the contract that was trained."""
    seeds: int
    """Trainings per share."""
    epochs: int
    """Epochs of each training."""
    dataset: str
    """Fingerprint of the dataset whose examples these are."""
    prompts: int
    """Prompts of the holdout."""
    clusters: int
    """Their scenarios; a prompt without one counts by itself."""
    level: float
    """Confidence level of the intervals."""
    points: list[CurvePoint]
    """Smallest share first."""
    law: str
    """The law that was fitted, with its source."""
    exponent: float | None = None
    """b of error = a n^-b: 0 = more data does not help; null if nothing could be fitted, as the fields below."""
    next_examples: int | None = None
    """Twice the examples of the dataset."""
    next_gain: Estimate | None = None
    """Exact match that the law gives for them, less that of today. The interval is over seeds and prompts, not over laws."""
    flattening: Estimate | None = None
    """Exponent of the first half of the curve less that of the last: above 0, the law promises too much."""
    bias_growth: Estimate | None = None
    """`errors_shared` of all examples less that of the smallest share, paired: above 0, more data teaches the teacher's errors."""
    why: str = ""
    """Why nothing could be fitted."""
