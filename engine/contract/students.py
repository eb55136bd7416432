"""Students: models of several sizes that are trained at the same time."""

from typing import Literal

from pydantic import Field, model_validator

from engine.contract.base import Name, Positive, Section
from engine.contract.init import Init
from engine.contract.objectives import Objectives

PLACEMENT = ("workers", "micro_batch_size", "zero")
"""Keys of a student that say on what its training is computed, and in which pieces. Losses agree up to the order of sums, so these
keys are no part of the recipe: a training goes on with other ones, and a finished student stays current."""


def _is_false(value: object) -> bool:
    """Return whether a key is left out of dumps, so that recipes that were hashed before it existed keep their hashes."""
    return value is False


class EarlyStop(Section):
    """Early stopping by the validation loss."""

    patience: Positive = 2
    """Number of validations (one at the end of each epoch) without improvement after which training stops."""
    min_delta: float = Field(default=0.0, ge=0)
    """Least decrease of the validation loss that counts as an improvement, in nats per target token."""


class Student(Section):
    """One student."""

    name: Name
    init: Init
    objectives: Objectives = Objectives()
    freeze_embeddings: bool = True
    """Do not train the token embeddings and an output layer tied with them: that halves the work for a small model."""
    freeze_layers: int = Field(default=0, ge=0)
    """Number of first layers that are not trained. Useful where they are also the first layers of the source."""
    zero: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage (Rajbhandari et al., 2020)."""
    workers: Positive = 1
    """Data-parallel workers. Like `zero` and `micro_batch_size` no part of the recipe: a training that was interrupted goes on with
    another number, and losses differ by the order of floating-point sums."""
    epochs: Positive = 3
    batch_size: Positive = 16
    """Examples per optimizer step over all workers."""
    micro_batch_size: Positive = 16
    """Most examples per forward pass of one worker; must divide a worker's share of the batch."""
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises linearly; after them it falls to zero as a cosine."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Norm to which a larger gradient is clipped."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of matrix products and exported weights; the optimizer's copy of the weights is float32."""
    max_tokens: Positive = 512
    """Longest example in tokens; longer ones are left out and counted as `too_long`."""
    packing: bool = Field(default=False, exclude_if=_is_false)
    """Put several examples into one row of at most `max_tokens` tokens instead of padding each; none attends to another. Refused
    for a model that cannot keep them apart."""
    curriculum: Literal["none", "confidence_tier", "difficulty"] = "none"
    """Order within an epoch: shuffled; the surest tier of `judges.pools.confidence_tiers` first; or the easiest first."""
    early_stop: EarlyStop | None = EarlyStop()
    checkpoint_steps: Positive = 20
    """Optimizer steps between checkpoints, which is the most that a crash costs."""
    seed: int = Field(default=0, ge=0)
    """Seed of the order of the examples."""

    @property
    def per_device_batch(self) -> int:
        """Examples per forward pass of one worker."""
        return min(self.micro_batch_size, self.batch_size // self.workers)

    @model_validator(mode="after")
    def batch_is_shared_evenly(self) -> "Student":
        if self.batch_size % self.workers:
            raise ValueError(f"batch_size: found {self.batch_size}, expected a multiple of workers, which is {self.workers}")
        share, micro = self.batch_size // self.workers, self.micro_batch_size
        if share % self.per_device_batch:
            raise ValueError(f"micro_batch_size: found {micro}, expected a divisor of a worker's share of the batch, {share}")
        return self

    @model_validator(mode="after")
    def has_trainable_layers(self) -> "Student":
        kept = len(self.init.prune.layers)
        if self.freeze_layers >= kept:
            raise ValueError(
                f"freeze_layers: found {self.freeze_layers}, expected less than the length of init.prune.layers, {kept}"
            )
        return self
