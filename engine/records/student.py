"""What the training of a student measured."""

from pydantic import Field

from engine.records.base import Record


class TrainingSetup(Record):
    """Model and data of a training, as they were loaded."""

    parameters: int
    """Of the student; tied ones count once."""
    source_parameters: int
    """Of the model that was pruned."""
    source_layers: int
    """Decoder layers of the model that was pruned."""
    examples: dict[str, int]
    """Split (train, validation) -> examples."""
    too_long: int
    """Examples of more than `max_tokens` tokens, which were left out."""


class ValidationLoss(Record):
    """Nats per target token on the validation split."""

    final: float
    """After the last step."""
    best: float
    """The lowest one; the exported weights are those of its step."""
    best_step: int
    """Optimizer step of the lowest one."""


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
    """Folder or packaged name of the model that was pruned."""
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
    resized: tuple[Resized, ...] = ()
    """Those of them that had another number of workers; losses agree up to the order of floating-point sums."""
