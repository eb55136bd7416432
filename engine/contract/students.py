"""Room 5: capacities that are trained side by side."""

from typing import Literal

from pydantic import Field

from engine.contract.base import Name, Positive, Section


class Prune(Section):
    """Start from some layers of a larger model."""

    source: str
    """Folder or packaged name of the model that is pruned."""
    layers: tuple[int, ...] = Field(min_length=1)
    """Which decoder layers stay, by index, in order."""


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
    """Validations without improvement."""
    min_delta: float = Field(default=0.0, ge=0)


class Student(Section):
    """One capacity."""

    name: Name
    init: Init
    objectives: Objectives = Objectives()
    zero: Literal[0, 1, 2, 3] = 2
    """DeepSpeed ZeRO stage (Rajbhandari et al., 2020)."""
    workers: Positive = 1
    """Data-parallel workers; part of identity because it changes the batches."""
    epochs: Positive = 3
    batch: Positive = 16
    """Examples per optimizer step over all workers."""
    micro_batch: Positive = 16
    """Examples that one worker holds at once."""
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises; then it falls as a cosine."""
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    max_tokens: Positive = 512
    """A longer example is left out and counted."""
    early_stop: EarlyStop | None = EarlyStop()
    checkpoint_steps: Positive = 20
    """Optimizer steps between checkpoints: what a crash can cost."""
    seed: int = 0
