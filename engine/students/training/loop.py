"""The training loop of one worker.

What is random in it follows from seed and step: the order of the examples, and dropout where the model has some. The learning rate
is a function of the step, and of the step at which its decay began. So a resumed run continues with bit-equal losses: weights,
optimizer state and float32 copies come from DeepSpeed's checkpoint, everything else from `Progress`. Only `max_seconds` is no
function of the step.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from engine.records.student import EndedBy
from engine.rows import content_id
from engine.students.data.pack import epoch_batches
from engine.students.export import adapter, huggingface
from engine.students.training import passes, zero
from engine.students.training.loss_module import Totals
from engine.students.training.schedule import latest_decay_start, learning_rate
from engine.students.training.setup import setup
from engine.students.training.state import BEST, Training, TrainSpec, WorkerContext
from engine.students.training.validation import validate


def run(spec: TrainSpec, worker: WorkerContext) -> None:
    """Train until the last step, or until early stopping. The last checkpoint holds the folder `BEST` and the progress."""
    with tempfile.TemporaryDirectory() as scratch:
        training = setup(spec, worker, Path(scratch))
        progress, student = training.progress, spec.student
        while not progress.is_over:
            epoch = progress.step // training.epoch_steps
            batches = epoch_batches(training.splits["train"], size=student.batch_size, seed=student.seed, epoch=epoch)
            for rows in batches[progress.step % training.epoch_steps :]:
                step(training, rows)
                began_decay = advance(training)
                if progress.is_over or began_decay or progress.step % student.checkpoint_steps == 0:
                    save(training)
                worker.on_step(progress, training.last_step)
                if progress.is_over:
                    break


def advance(training: Training) -> bool:
    """After a step: validate if it is time, and decide whether the training is over or the decay of the learning rate begins.

    Returns whether the clock began the decay: no later attempt would do it at the same step, unless a checkpoint holds it.
    """
    progress, student = training.progress, training.spec.student
    seconds = training.elapsed() if student.max_seconds else 0.0
    is_late = bool(student.max_seconds and seconds >= student.max_seconds)
    if progress.has_diverged:
        progress.is_over, progress.ended_by = True, "diverged"
        return False
    is_last = progress.step >= training.last_step or is_late
    if is_last or progress.step % (student.validate_steps or training.epoch_steps) == 0:
        validate(training)
    decays = student.schedule == "wsd"
    if is_last or (progress.stopped_early and not decays):
        progress.is_over, progress.ended_by = True, ended_by(training, is_late=is_late)
        return False
    if not decays or progress.decay_start is not None:
        return False
    by_clock = bool(student.max_seconds and seconds >= (1 - student.decay_ratio) * student.max_seconds)
    if progress.stopped_early or by_clock or progress.step >= latest_decay_start(training.total_steps, student):
        progress.decay_start, progress.decayed_by_clock = progress.step, by_clock and not progress.stopped_early
    return by_clock


def ended_by(training: Training, *, is_late: bool) -> EndedBy:
    """Return what ended the training after this step."""
    progress, student = training.progress, training.spec.student
    if is_late and progress.step < training.last_step and not (progress.stopped_early and student.schedule != "wsd"):
        return "max_seconds"
    if progress.decayed_by_clock and progress.step < training.total_steps:  # the decay that the clock began is done
        return "max_seconds"
    if progress.stopped_early:
        return "early_stop"
    return "max_steps" if student.max_steps else "epochs"


def step(training: Training, rows: np.ndarray) -> None:
    """Make one optimizer step on the examples `rows`: this worker computes its share of them, in micro-batches."""
    student, worker, progress, began = training.spec.student, training.worker, training.progress, time.monotonic()
    packed = training.splits["train"]
    rate = learning_rate(progress.step, training.total_steps, student, progress.decay_start)
    torch.manual_seed(int(content_id(student.seed, progress.step, worker.rank)[:15], 16))  # of dropout
    zero.set_learning_rate(training.engine, rate)
    shares = passes.shares(training, rows)
    place = passes.place(training, progress.step // training.epoch_steps, pair_factor=shares.weight / max(shares.pair_count, 1))
    totals = Totals(training.engine.module, worker.device)
    for examples, pairs in zip(shares.examples, shares.pairs, strict=True):
        loss = training.engine(*passes.inputs(training, "train", examples, pairs), place)
        # DeepSpeed takes the mean over micro-batches and workers; the factor makes it the mean over the batch's target tokens.
        training.engine.backward(loss * (len(shares.examples) * worker.world / shares.weight))
        training.engine.step()
        totals.add(loss, training.engine.module.parts)
    progress.step += 1
    progress.tokens += int(packed.learned[rows[rows >= 0]].sum())
    mean = passes.mean(training, totals, shares.weight)
    training.record("train", mean.loss, rate, began, parts=mean.column)


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
                keep_best(training, folder / BEST)
        training.worker.save_checkpoint(folder)


def keep_best(training: Training, folder: Path) -> None:
    """Put the best model so far into `folder`; of one with an adapter only the adapter, until the training is over."""
    student, best = training.spec.student, training.scratch / BEST
    if training.pruned.adapter is not None and not training.progress.is_over:
        best, folder = best / adapter.FOLDER, folder / adapter.FOLDER
    elif student.init.adapter and not student.init.adapter.merge:
        huggingface.write_base(training.pruned, best / adapter.BASE, dtype=student.dtype)
    shutil.copytree(best, folder, copy_function=os.link)
