"""What the training of a student measured."""

from typing import Literal

from pydantic import Field

from engine.records.base import Record


class TrainingSetup(Record):
    """Model and data of a training, as they were loaded."""

    parameters: int
    """Of the student; tied ones count once."""
    source_parameters: int
    """Of the model that it was made from."""
    source_layers: int
    """Decoder layers of that model."""
    examples: dict[str, int]
    """Split (train, validation) -> examples."""
    too_long: int
    """Examples of more than `max_tokens` tokens, which were left out."""


class ValidationLoss(Record):
    """Nats per target token on the validation split."""

    final: float
    """After the last step."""
    best: float
    """Of the exported weights: the lowest one, or that of the best `metric`."""
    best_step: int
    """Optimizer step of the exported weights."""


EndedBy = Literal["", "epochs", "max_steps", "max_seconds", "early_stop"]


class SeedMetrics(Record):
    """One training of a student."""

    seed: int
    loss: float
    """Validation loss of its best weights, nats per target token."""
    metric: float | None = None
    """What chose them, if it is not the loss: the mean of `served` and `unconstrained`, as far as they were measured."""
    served: float | None = None
    """Share of exact answers under the answer schema and spans of the prompt, 0 to 1; null = not measured."""
    unconstrained: float | None = None
    """Share of exact answers without them."""
    best_step: int
    """Optimizer step of its best weights."""
    steps: int
    seconds: float
    """In all attempts, up to the last checkpoint."""
    ended_by: EndedBy


class Spread(Record):
    """A measurement over the seeds of a student."""

    mean: float
    sd: float
    """Standard deviation, of a sample: over n - 1."""
    min: float
    max: float


class Resized(Record):
    """A training that went on with another number of workers."""

    step: int
    """Optimizer step from which it went on."""
    before: int
    """Workers up to that step."""
    after: int
    """Workers from then on."""


class StudentMetrics(Record):
    """Metrics of the artifact `students/NAME`."""

    name: str
    """The student's name in the contract."""
    parameters: int
    """Parameters of the student; tied ones count once."""
    source: str
    """Folder or packaged name of the model that the initial weights are from; `champion` for a released student."""
    source_parameters: int
    """Parameters of that model."""
    source_layers: int
    """Decoder layers of that model."""
    layers: list[int]
    """Decoder layers of that model that the student keeps."""
    zero: int
    """DeepSpeed ZeRO stage."""
    workers: int
    """Data-parallel workers."""
    validation_loss: ValidationLoss
    steps: int = Field(ge=0)
    """Optimizer steps."""
    tokens: int
    """Target tokens that were learned, over all epochs."""
    seconds: float
    """Seconds of training in all attempts, up to the last checkpoint."""
    stopped_early: bool
    """Whether the patience of `early_stop` ended the training."""
    resumed_from: list[int]
    """Steps from which a later attempt continued after a crash."""
    ended_by: EndedBy = ""
    """What ended the training; "" in records that are older than the key."""
    seed: int | None = None
    """Of the exported model; null in records that are older than the key."""
    seeds: tuple[SeedMetrics, ...] = ()
    """Every training, by seed."""
    spread: dict[str, Spread] = Field(default_factory=dict)
    """`loss`, `metric`, `served`, `unconstrained` -> over the seeds, of their best weights; {} with one seed."""
    resized: tuple[Resized, ...] = ()
    """Those of them that had another number of workers; losses agree up to the order of floating-point sums."""
