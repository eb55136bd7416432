"""Room 5: capacities that are trained side by side."""

from typing import Literal

from pydantic import Field, model_validator

from engine.contract.base import Name, Positive, Section


class Prune(Section):
    """Start from some layers of a larger model."""

    source: str
    """Folder or packaged name of the model that is pruned."""
    layers: tuple[int, ...] = Field(min_length=1)
    """Which decoder layers stay, by index, in order. The first and the last matter most."""


class Init(Section):
    """Where a student's weights come from."""

    prune: Prune


class Objectives(Section):
    """Weights of the losses."""

    sft: float = Field(default=1.0, gt=0)
    """Cross entropy of the target tokens only."""


class EarlyStop(Section):
    """When to stop before the last epoch."""

    patience: Positive = 2
    """Validations, one at the end of each epoch, without improvement."""
    min_delta: float = Field(default=0.0, ge=0)
    """A validation loss improves if it falls by more than this (nats per target token)."""


class Student(Section):
    """One capacity."""

    name: Name
    init: Init
    objectives: Objectives = Objectives()
    freeze_embeddings: bool = True
    """Keep the token table, and the output layer tied with it, as they are: half the work for a small model."""
    freeze_layers: int = Field(default=0, ge=0)
    """The first layers that stay as they are. Where they are also the source's first ones they read what they always read."""
    zero: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage (Rajbhandari et al., 2020)."""
    workers: Positive = 1
    """Data-parallel workers; part of identity because it changes the order of sums."""
    epochs: Positive = 3
    batch: Positive = 16
    """Examples per optimizer step over all workers."""
    micro_batch: Positive = 16
    """Examples that one worker holds at once, at most; must divide a worker's share of the batch."""
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises; then it falls as a cosine."""
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient; a longer one is shortened."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the matrix products and of the exported weights; the optimizer's copy is float32."""
    max_tokens: Positive = 512
    """A longer example is left out and counted."""
    curriculum: Literal["none", "confidence_tier", "difficulty"] = "none"
    """Order of the examples within each epoch: at random, the surest tier of `judges.pools.confidence_tiers` first, or the easiest first."""
    early_stop: EarlyStop | None = EarlyStop()
    checkpoint_steps: Positive = 20
    """Optimizer steps between checkpoints: what a crash can cost."""
    seed: int = Field(default=0, ge=0)
    """Decides the order of the examples."""

    @property
    def held(self) -> int:
        """Examples that one worker computes at once."""
        return min(self.micro_batch, self.batch // self.workers)

    @model_validator(mode="after")
    def batch_is_shared_evenly(self) -> "Student":
        if self.batch % self.workers:
            raise ValueError(f"batch: found {self.batch}, expected a multiple of workers, which is {self.workers}")
        if self.batch // self.workers % self.held:
            share = self.batch // self.workers
            raise ValueError(f"micro_batch: found {self.micro_batch}, expected a divisor of a worker's share of the batch, {share}")
        return self

    @model_validator(mode="after")
    def something_can_learn(self) -> "Student":
        kept = len(self.init.prune.layers)
        if self.freeze_layers >= kept:
            raise ValueError(f"freeze_layers: found {self.freeze_layers}, expected fewer than the layers that are kept, {kept}")
        return self
