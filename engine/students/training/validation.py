"""Validation: its loss, the student's metric, and the best model so far."""

import math
import shutil
import time
from pathlib import Path

from engine.students.export import huggingface
from engine.students.training import generation, zero
from engine.students.training.passes import validation_loss
from engine.students.training.schedule import learning_rate
from engine.students.training.state import BEST, Training

CANDIDATE = "candidate"  # folder of the weights whose answers are compared before it is known whether they are the best


def validate(training: Training) -> None:
    """Compute loss and metric on the validation split; keep the weights if they are the best so far. Every rank must call it."""
    student, progress, began = training.spec.student, training.progress, time.monotonic()
    mean, shares = validation_loss(training), generation.Shares()
    loss = mean.loss
    candidate = training.scratch / CANDIDATE
    if student.metric == "exact_match" and math.isfinite(loss):  # weights that are no numbers answer nothing
        write(training, candidate)
        shares = generation.measure(training, candidate)
    progress.update_best(loss, student.early_stop if progress.decay_start is None else None, shares.metric)
    if progress.best_step == progress.step:
        keep_best(training, candidate)
    rate = learning_rate(progress.step, training.total_steps, student, progress.decay_start)
    training.record("validation", loss, rate, began, parts=mean.column, **shares.columns())


def keep_best(training: Training, candidate: Path) -> None:
    """Make the current weights, which `candidate` holds if answers were generated, the best model. Every rank must call it."""
    best = training.scratch / BEST
    shutil.rmtree(best, ignore_errors=True)
    if training.spec.student.metric == "loss":
        write(training, best)
    elif training.worker.rank == 0:
        candidate.rename(best)


def write(training: Training, folder: Path) -> None:
    """Write the current weights into `folder`, on rank 0. Every rank must call it."""
    weights = zero.weights(training.engine)
    if weights is not None:
        shutil.rmtree(folder, ignore_errors=True)
        huggingface.write(training.pruned, weights, folder, dtype=training.spec.student.dtype)
