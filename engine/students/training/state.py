"""What a training is, in one worker: its specification, the worker's place, and the state that the loop changes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from engine.contract.specialist import TaskUnit
from engine.contract.students import Student
from engine.inference.turn_end import padding
from engine.inference.weights import BundledModel, RemoteModel, local
from engine.students.data.batch import Batch
from engine.students.data.pack import Packed, collate
from engine.students.init import prune
from engine.students.training.checkpoint_state import Progress
from engine.students.training.preferences import Preferences
from engine.students.training.schedule import decay_steps

BEST = "best"  # folder in a checkpoint: the Hugging Face model of the best validation so far
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Served:
    """How a trained student will be asked, in picklable values."""

    units: Mapping[str, TaskUnit]
    """By name."""
    max_tokens: int
    """Of an answer."""
    tools: tuple[str, ...] = ()
    """Names of the tools that it may call, in the order of the contract."""


@dataclass(frozen=True)
class RoundSpec:
    """What the training of one on-policy round reads; folders that every worker reaches."""

    number: int
    """From 1."""
    rollouts: str
    """URL of the folder of its samples, see `engine.students.on_policy.rollouts`."""
    start: str
    """Model before the first round."""
    previous: str
    """Checkpoint of the round before; "" in the first one."""
    steps: int
    """Optimizer steps."""
    sampled_by: str = ""
    """Model that drew the samples, where it is older than the weights with which the round begins; "" = these weights."""


@dataclass(frozen=True)
class TrainSpec:
    """Everything that defines a training; plain values, so that it can be sent to workers."""

    student: Student
    source: str | BundledModel | RemoteModel  # where the model lies that is pruned; a path is the same on every node
    dataset: str  # URL of the artifact `dataset`
    accelerator: str  # key of zero.BACKENDS
    tokens: str  # URL of the artifact `tokens`
    tokenizer: str  # key of the student's tokenizer in it
    capture: str = ""  # URL of the artifact `capture`; "" = no objective reads it
    served: Served | None = None  # for `metric: exact_match`
    round: RoundSpec | None = None  # of an on-policy round; None = the training on examples
    label: str = ""  # what people read instead of the student's name, such as its name and seed

    @property
    def source_folder(self) -> Path:
        """Folder of `source` on this node, to which it is fetched if need be."""
        return Path(self.source) if isinstance(self.source, str) else local(self.source)

    @property
    def title(self) -> str:
        """What people read."""
        return self.label or self.student.name

    @property
    def as_computed(self) -> "TrainSpec":
        """With the ZeRO stage in which its workers compute: one worker has none to share its state with, and on a CPU the copies of
        gradients and weights that the stages 1 to 3 make for others take half as long again as the rest of a step."""
        alone = self.accelerator == "cpu" and self.student.workers == 1
        return replace(self, student=self.student.model_copy(update={"zero": 0})) if alone else self


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
    storage: str = ""
    """Path or URL of the folder of this training, which every rank reaches; "" if there is one rank only, for its own scratch."""


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
    sample: Any = None  # generation.Sample, once it has been built

    @property
    def epoch_steps(self) -> int:
        """Optimizer steps of one epoch."""
        return -(-len(self.splits["train"]) // self.spec.student.batch_size)

    @property
    def total_steps(self) -> int:
        """Optimizer steps unless early stopping or the time ends the training."""
        return self.spec.student.max_steps or self.epoch_steps * self.spec.student.epochs

    @property
    def epochs(self) -> int:
        """Epochs that are begun, over which objectives change their weights."""
        return -(-self.total_steps // self.epoch_steps)

    @property
    def last_step(self) -> int:
        """The step that ends the training, as far as it is known: the decay of the learning rate ends at it, once it has begun."""
        start, total = self.progress.decay_start, self.total_steps
        return total if start is None else start + decay_steps(start, total, self.spec.student)

    def elapsed(self) -> float:
        """Return the seconds of training in all attempts, by the clock of rank 0. Every rank must call it."""
        seconds = self.progress.seconds + time.monotonic() - self.started if self.worker.rank == 0 else 0.0
        return self.sum_over_workers(torch.tensor(seconds, dtype=torch.float64, device=self.worker.device))

    def batch(self, packed: Packed, rows: np.ndarray) -> Batch:
        """Return the examples `rows` of `packed` on the worker's device; -1 is a row of padding."""
        student = self.spec.student
        capacity = student.max_tokens if student.packing else None
        return collate(packed, rows, pad=self.pad, capacity=capacity).to(self.worker.device)

    @property
    def pad(self) -> int:
        """The token that fills rows."""
        return padding(self.pruned.tokenizer)

    def sum_over_workers(self, total: torch.Tensor) -> float:
        """Return the sum of each worker's `total`."""
        if self.worker.world > 1:
            dist.all_reduce(total)
        return float(total)

    def record(self, split: str, loss: float, rate: float, began: float, **columns: object) -> None:
        """Add a point to the loss curve: `loss` in nats per target token, `began` on the monotonic clock, and other `columns`."""
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
                **columns,
            }
        )
