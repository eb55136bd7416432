"""What a training is, in one worker: its specification, the worker's place, and the state that the loop changes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from engine.contract.students import Student
from engine.students.data.batch import Batch, PreferenceBatch
from engine.students.data.pack import Packed, collate
from engine.students.data.pairs import collate_pairs, shared
from engine.students.init import prune
from engine.students.training.checkpoint_state import Progress
from engine.students.training.loss_module import Place, Totals
from engine.students.training.preferences import NO_PAIRS, Preferences, StepPairs

BEST = "best"  # folder in a checkpoint: the Hugging Face model of the lowest validation loss so far
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class TrainSpec:
    """Everything that defines a training; plain values, so that it can be sent to workers."""

    student: Student
    source: str  # folder of the model that is pruned
    dataset: str  # URL of the artifact `dataset`
    accelerator: str  # key of zero.BACKENDS


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
    preferences: Preferences | None = None
    """Pairs, if an objective reads them."""

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
        return collate(packed, rows, pad=self.pad).to(self.worker.device)

    def pairs_of(self, rows: np.ndarray, micro: int) -> StepPairs:
        """Return the preference pairs of the next step, in `micro` micro-batches; `rows` are the step's own batch."""
        each = self.preferences
        if each is None:
            return StepPairs([NO_PAIRS] * micro, 0)
        chosen = rows[rows >= 0] if each.is_alone else each.of_step(self.progress.step, self.epoch_steps, self.spec.student.seed)
        return StepPairs([*shared(chosen, micro=micro, world=self.worker.world, rank=self.worker.rank)], len(chosen))

    def inputs(self, split: str, rows: np.ndarray, pairs: np.ndarray) -> tuple[Batch | None, PreferenceBatch | None]:
        """Return what one forward pass reads: the examples `rows` of `split`, unless all are pairs, and its `pairs`."""
        alone = self.preferences is not None and self.preferences.is_alone
        return None if alone else self.batch(self.splits[split], rows), self.pair_batch(split, pairs) if len(pairs) else None

    def pair_batch(self, split: str, rows: np.ndarray) -> PreferenceBatch:
        """Return the pairs `rows` of `split` on the worker's device; -1 is a pair of padding."""
        assert self.preferences is not None
        pairs, reference = self.preferences.splits[split], self.preferences.reference.get(split)
        return collate_pairs(pairs, rows, reference=reference, pad=self.pad).to(self.worker.device)

    @property
    def pad(self) -> int:
        """The token that fills rows."""
        tokenizer = self.pruned.tokenizer
        return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    @property
    def last_epoch(self) -> int:
        """The last epoch of the training, from 0."""
        return -(-self.total_steps // self.epoch_steps) - 1

    def place(self, epoch: int, pair_factor: float = 1.0) -> Place:
        """Return what LossModule is told about where the training is."""
        return Place(epoch, self.last_epoch + 1, pair_factor)

    def weight(self, packed: Packed, rows: np.ndarray) -> float:
        """Return by what the summed loss of the examples `rows` is divided: their target tokens by weight, or pairs."""
        alone = self.preferences is not None and self.preferences.is_alone
        return float((rows >= 0).sum()) if alone else packed.weight(rows)

    def means(self, totals: Totals, denominator: float) -> tuple[float, dict[str, float]]:
        """Return the mean loss over all workers, and that of each objective's term."""
        if self.worker.world > 1:
            dist.all_reduce(totals.values)
        loss, *parts = (value / denominator for value in totals.values.tolist())
        return loss, dict(zip(totals.names, parts, strict=True))

    def record(self, split: str, loss: float, parts: Mapping[str, float], rate: float, began: float) -> None:
        """Add a point to the loss curve: `loss` in nats per target token, `began` on the monotonic clock.

        `parts` are the terms of the loss by objective; they are kept if there is more than one.
        """
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
                **({"parts": [{"objective": name, "loss": part} for name, part in parts.items()]} if len(parts) > 1 else {}),
            }
        )
