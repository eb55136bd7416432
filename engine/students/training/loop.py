"""The training loop of one worker.

The only random thing in it is the order of the examples, which follows from seed and epoch; the learning rate is a function of
the step. So a resumed run continues with bit-equal losses: weights, optimizer state and float32 copies come from DeepSpeed's
checkpoint, everything else from `Progress`.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from engine.students.data.pack import epoch_batches
from engine.students.training import zero
from engine.students.training.loss_module import Totals
from engine.students.training.schedule import learning_rate
from engine.students.training.setup import setup
from engine.students.training.state import BEST, Training, TrainSpec, WorkerContext
from engine.students.training.validation import validate


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


def step(training: Training, rows: np.ndarray) -> None:
    """Make one optimizer step on the examples `rows`: this worker computes its share of them, in micro-batches."""
    student, worker, progress, began = training.spec.student, training.worker, training.progress, time.monotonic()
    packed = training.splits["train"]
    rate = learning_rate(progress.step, training.total_steps, student)
    zero.set_learning_rate(training.engine, rate)
    shares = rows.reshape(-1, worker.world, student.per_device_batch)[:, worker.rank]
    pairs = training.pairs_of(rows, len(shares))
    denominator = training.weight(packed, rows) or 1.0  # a batch of weight 0 teaches nothing
    place = training.place(progress.step // training.epoch_steps, denominator / max(pairs.count, 1))
    totals = Totals(training.engine.module, worker.device)
    for share, of_share in zip(shares, pairs.shares, strict=True):
        loss = training.engine(*training.inputs("train", share, of_share), place)
        # DeepSpeed takes the mean over micro-batches and workers; the factor makes it the mean over the batch's target tokens.
        training.engine.backward(loss * (len(shares) * worker.world / denominator))
        training.engine.step()
        totals.add(loss, training.engine.module.parts)
    progress.step += 1
    progress.tokens += int(packed.learned[rows[rows >= 0]].sum())
    training.record("train", *training.means(totals, denominator), rate, began)


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
            if training.preferences:
                training.preferences.save(folder)
            if progress.best is not None:
                shutil.copytree(training.scratch / BEST, folder / BEST, copy_function=os.link)
        training.worker.save_checkpoint(folder)
