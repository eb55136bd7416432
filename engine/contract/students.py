"""Students: models of several sizes that are trained at the same time."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.contract.base import Name, Positive, Section, distinct
from engine.contract.exports import AnyExport, is_empty
from engine.contract.init import Init
from engine.contract.objectives import Objectives


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
    """Data-parallel workers. Part of the recipe, because it changes the order of floating-point sums."""
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
    curriculum: Literal["none", "confidence_tier", "difficulty"] = "none"
    """Order within an epoch: shuffled; the surest tier of `judges.pools.confidence_tiers` first; or the easiest first."""
    early_stop: EarlyStop | None = EarlyStop()
    checkpoint_steps: Positive = 20
    """Optimizer steps between checkpoints, which is the most that a crash costs."""
    seed: int = Field(default=0, ge=0)
    """Seed of the order of the examples."""
    exports: Annotated[tuple[AnyExport, ...], distinct(hint="; give one of them a `name`")] = Field(default=(), exclude_if=is_empty)
    """Further deployments of the trained student, beside its own safetensors folder. No part of the training's recipe."""

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
