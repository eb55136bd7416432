"""What a training is, in one worker: its specification, the worker's place, and the state that the loop changes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from engine.contract.students import Student
from engine.students.data.pack import Batch, Packed, collate
from engine.students.init import prune
from engine.students.training.checkpoint_state import Progress

BEST = "best"  # folder in a checkpoint: the Hugging Face model of the lowest validation loss so far
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class TrainSpec:
    """Everything that defines a training; plain values, so that it can be sent to workers."""

    student: Student
    source: str  # folder of the model that is pruned
    dataset: str  # URL of the artifact `dataset`
    accelerator: str  # key of zero.BACKENDS
    tokens: str  # URL of the artifact `tokens`
    tokenizer: str  # key of the student's tokenizer in it
    capture: str = ""  # URL of the artifact `capture`; "" = no objective reads it


@dataclass(frozen=True)
class WorkerContext:
    """One worker's place among the others, and its callbacks."""

    rank: int
    world: int
    device: torch.device
    resume: Path | None
    """Checkpoint to continue from."""
    save_checkpoint: Callable[[Path], None]
    """Takes a folder as this rank's part of a checkpoint; every rank must call it."""
    on_step: Callable[[Progress, int], None]
    """Called after every step with the progress and the total number of steps."""


@dataclass
class Training:
    """A training in one worker."""

    spec: TrainSpec
    worker: WorkerContext
    pruned: prune.PrunedModel
    engine: Any
    splits: dict[str, Packed]
    progress: Progress
    scratch: Path
    started: float

    @property
    def epoch_steps(self) -> int:
        """Optimizer steps of one epoch."""
        return -(-len(self.splits["train"]) // self.spec.student.batch_size)

    @property
    def total_steps(self) -> int:
        """Optimizer steps unless early stopping ends the training."""
        return self.epoch_steps * self.spec.student.epochs

    def batch(self, packed: Packed, rows: np.ndarray) -> Batch:
        """Return the examples `rows` of `packed` on the worker's device; -1 is a row of padding."""
        tokenizer = self.pruned.tokenizer
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        student = self.spec.student
        return collate(packed, rows, pad=pad, capacity=student.max_tokens if student.packing else None).to(self.worker.device)

    def sum_over_workers(self, total: torch.Tensor) -> float:
        """Return the sum of each worker's `total`."""
        if self.worker.world > 1:
            dist.all_reduce(total)
        return float(total)

    def record(self, split: str, loss: float, rate: float, began: float) -> None:
        """Add a point to the loss curve: `loss` in nats per target token, `began` on the monotonic clock."""
        progress = self.progress
        progress.curve.append(
            {
                "step": progress.step,
                "epoch": progress.step / self.epoch_steps,
                "split": split,
                "loss": loss,
                "learning_rate": rate,
                "tokens": progress.tokens,
                "seconds": round(time.monotonic() - began, 4),
            }
        )
