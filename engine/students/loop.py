"""The training loop of one worker.

The only random thing in it is the order of the examples, which follows from seed and epoch; the learning rate is a function of
the step. So a resumed run continues with bit-equal losses: weights, optimizer state and float32 copies come from DeepSpeed's
checkpoint, everything else from `Progress`.
"""

import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.distributed as dist

from engine.contract.students import Student
from engine.errors import InputError
from engine.records.student import TrainingSetup
from engine.rows import EXAMPLE
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from engine.students import export, objectives, prune, zero
from engine.students.checkpoint_state import Progress
from engine.students.loss_module import LossModule
from engine.students.pack import CURRICULUM_COLUMNS, Batch, Packed, collate, epoch_batches, pack, sorted_batches

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

    @property
    def epoch_steps(self) -> int:
        """Optimizer steps of one epoch."""
        return -(-len(self.splits["train"]) // self.spec.student.batch_size)

    @property
    def total_steps(self) -> int:
        """Optimizer steps unless early stopping ends the training."""
        return self.epoch_steps * self.spec.student.epochs


def run(spec: TrainSpec, worker: WorkerContext) -> None:
    """Train until the last epoch, or until early stopping. The last checkpoint holds the folder `BEST` and the progress."""
    with tempfile.TemporaryDirectory() as scratch:
        training = setup(spec, worker, Path(scratch))
        progress, student = training.progress, spec.student
        while not progress.is_over:
            epoch = progress.step // training.epoch_steps
            batches = epoch_batches(training.splits["train"], size=student.batch_size, seed=student.seed, epoch=epoch)
            for rows in batches[progress.step % training.epoch_steps :]:
                step(training, rows)
                if progress.step % training.epoch_steps == 0:
                    validate(training)
                if progress.is_over or progress.step % student.checkpoint_steps == 0:
                    save(training)
                worker.on_step(progress, training.total_steps)


def setup(spec: TrainSpec, worker: WorkerContext, scratch: Path) -> Training:
    """Load model and examples, start DeepSpeed, and restore the checkpoint `worker.resume` if there is one."""
    student = spec.student
    torch.manual_seed(student.seed)
    layers, freeze_embeddings, freeze_layers = student.init.prune.layers, student.freeze_embeddings, student.freeze_layers
    pruned = prune.prune(Path(spec.source), layers, freeze_embeddings=freeze_embeddings, freeze_layers=freeze_layers)
    pruned.model.set_attn_implementation(zero.BACKENDS[spec.accelerator].attention)
    if worker.rank == 0 and worker.resume is None:
        export.verify(pruned, scratch)
    splits = {
        name: pack(table, pruned.tokenizer, max_tokens=student.max_tokens, curriculum=student.curriculum)
        for name, table in load_examples(spec).items()
    }
    for name, split in splits.items():
        check_split(name, split, student)
    progress = Progress(
        setup=TrainingSetup(
            parameters=prune.parameters(pruned.model),
            source_parameters=pruned.source_parameters,
            source_layers=pruned.source_layers,
            examples={name: len(split) for name, split in splits.items()},
            too_long=sum(split.too_long for split in splits.values()),
        )
    )
    net = LossModule(pruned.model, student.objectives.model_dump()).to(worker.device)
    engine = zero.start(net, student, accelerator=spec.accelerator)
    training = Training(spec, worker, pruned, engine, splits, progress, scratch, time.monotonic())
    if worker.resume:
        restore(training, worker.resume)
    return training


def check_split(name: str, split: Packed, student: Student) -> None:
    """Raise InputError if nothing can be learned from the split, or validated on it."""
    if split.weight(np.arange(len(split))):
        return
    if split.too_long and not len(split):
        why = f"all {split.too_long} are longer than {student.max_tokens} tokens. Raise students.{student.name}.max_tokens"
    else:
        why = f"the weights of its {len(split)} examples are all 0. Raise the weights of curation"
    raise InputError(f"student {student.name}: no {name} example is left: {why}, or give shorter or more prompts and answers.")


def load_examples(spec: TrainSpec) -> dict[str, pa.Table]:
    """Return the examples of each split, in the order of their ids: the columns that objectives and curriculum read."""
    dataset = load_artifact(Folder(spec.dataset))
    assert dataset is not None, f"{spec.dataset} has no record"
    columns = {"example_id", "split", *CURRICULUM_COLUMNS, *objectives.columns(spec.student.objectives.model_dump())}
    rows = dataset.read("examples", EXAMPLE, sorted(columns)).sort_by("example_id")
    return {name: rows.filter(pc.field("split") == name) for name in SPLITS}


def step(training: Training, rows: np.ndarray) -> None:
    """Make one optimizer step on the examples `rows`: this worker computes its share of them, in micro-batches."""
    student, worker, progress, began = training.spec.student, training.worker, training.progress, time.monotonic()
    packed = training.splits["train"]
    rate = learning_rate(progress.step, training.total_steps, student)
    zero.set_learning_rate(training.engine, rate)
    shares = rows.reshape(-1, worker.world, student.per_device_batch)[:, worker.rank]
    denominator = packed.weight(rows) or 1.0  # a batch of weight 0 teaches nothing
    total = torch.zeros((), device=worker.device)
    for share in shares:
        loss = training.engine(_batch(training, packed, share))
        # DeepSpeed takes the mean over micro-batches and workers; the factor makes it the mean over the batch's target tokens.
        training.engine.backward(loss * (len(shares) * worker.world / denominator))
        training.engine.step()
        total += loss.detach()
    progress.step += 1
    progress.tokens += int(packed.learned[rows[rows >= 0]].sum())
    _record(training, "train", _sum_over_workers(total, worker) / denominator, rate, began)


def validate(training: Training) -> None:
    """Compute the validation loss, keep the weights if it is the lowest so far, and decide whether the training is over."""
    student, worker, progress, began = training.spec.student, training.worker, training.progress, time.monotonic()
    packed = training.splits["validation"]
    rows = sorted_batches(packed, size=student.per_device_batch * worker.world)
    total = torch.zeros((), device=worker.device)
    training.engine.eval()
    with torch.no_grad():
        for share in rows.reshape(-1, worker.world, student.per_device_batch)[:, worker.rank]:
            total += training.engine(_batch(training, packed, share))
    training.engine.train()
    loss = _sum_over_workers(total, worker) / packed.weight(rows.ravel())
    progress.update_best(loss, student.early_stop)
    if progress.best_step == progress.step:
        keep_best(training)
    progress.is_over = progress.stopped_early or progress.step >= training.total_steps
    _record(training, "validation", loss, learning_rate(progress.step, training.total_steps, student), began)


def keep_best(training: Training) -> None:
    """Write the current weights as the best model. Every rank must call it."""
    weights, dtype = zero.weights(training.engine), training.spec.student.dtype
    ids = export.probe(training.pruned)
    in_memory = export.logits(training.pruned.model, ids.to(training.worker.device))  # with ZeRO 3 every rank holds a part
    if weights is not None:
        folder = training.scratch / BEST
        shutil.rmtree(folder, ignore_errors=True)
        export.write(training.pruned, weights, folder, dtype=dtype)
        export.compare(folder, in_memory, ids, dtype=dtype)


def save(training: Training) -> None:
    """Save a checkpoint. The last one has no optimizer state: only the artifact is made from it."""
    progress, now = training.progress, time.monotonic()
    progress.seconds += now - training.started
    training.started = now
    with tempfile.TemporaryDirectory(dir=training.scratch) as name:
        folder = Path(name)
        if not progress.is_over:
            zero.save(training.engine, folder)
        if training.worker.rank == 0:
            progress.write(folder)
            if progress.best is not None:
                shutil.copytree(training.scratch / BEST, folder / BEST, copy_function=os.link)
        training.worker.save_checkpoint(folder)


def restore(training: Training, folder: Path) -> None:
    """Continue from the checkpoint `folder`."""
    training.progress = progress = Progress.read(folder)
    if not progress.is_over:
        zero.load(training.engine, folder)
        progress.resumed_from.append(progress.step)
    if training.worker.rank == 0 and progress.best is not None:
        shutil.copytree(folder / BEST, training.scratch / BEST)


def learning_rate(step: int, total: int, student: Student) -> float:
    """Return the rate of step `step` (from 0) of `total`: linear warm-up, then a cosine to zero (Loshchilov and Hutter, 2017).

    After warm-up it equals `get_cosine_schedule_with_warmup` of transformers, whose very first step has a rate of zero.
    """
    warmup = max(1, round(student.warmup_ratio * total))
    if step < warmup:
        return student.learning_rate * (step + 1) / warmup
    return student.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _batch(training: Training, packed: Packed, rows: np.ndarray) -> Batch:
    tokenizer = training.pruned.tokenizer
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return collate(packed, rows, pad=pad).to(training.worker.device)


def _sum_over_workers(total: torch.Tensor, worker: WorkerContext) -> float:
    if worker.world > 1:
        dist.all_reduce(total)
    return float(total)


def _record(training: Training, split: str, loss: float, rate: float, began: float) -> None:
    progress = training.progress
    progress.curve.append(
        {
            "step": progress.step,
            "epoch": progress.step / training.epoch_steps,
            "split": split,
            "loss": loss,
            "learning_rate": rate,
            "tokens": progress.tokens,
            "seconds": round(time.monotonic() - began, 4),
        }
    )
