"""Validation at the end of each epoch: its loss, the best model so far, and whether the training is over."""

import shutil
import time
from collections.abc import Callable

import numpy as np
import torch

from engine.students.data.batch import Batch, PreferenceBatch
from engine.students.data.pack import Packed, sorted_batches
from engine.students.export import huggingface
from engine.students.training import zero
from engine.students.training.loss_module import Totals
from engine.students.training.schedule import learning_rate
from engine.students.training.state import BEST, Training

Inputs = Callable[[np.ndarray], tuple[Batch | None, PreferenceBatch | None]]


def validate(training: Training) -> None:
    """Compute the validation loss, keep the weights if it is the lowest so far, and decide whether the training is over."""
    student, progress, began = training.spec.student, training.progress, time.monotonic()
    loss, parts = validation_loss(training)
    progress.update_best(loss, student.early_stop)
    if progress.best_step == progress.step:
        keep_best(training)
    progress.is_over = progress.stopped_early or progress.step >= training.total_steps
    training.record("validation", loss, parts, learning_rate(progress.step, training.total_steps, student), began)


def validation_loss(training: Training) -> tuple[float, dict[str, float]]:
    """Return the loss on the validation split with the weights of the last epoch, and the terms of its objectives."""
    packed, each = training.splits["validation"], training.preferences
    loss, parts = 0.0, dict[str, float]()
    training.engine.eval()
    if each is None or not each.is_alone:
        loss, parts = _mean(training, packed, lambda rows: (training.batch(packed, rows), None), packed.weight)
    if each is not None:
        chosen = each.splits["validation"].chosen
        of_pairs, more = _mean(training, chosen, lambda rows: (None, training.pair_batch("validation", rows)), len)
        loss, parts = loss + of_pairs, parts | more
    training.engine.train()
    return loss, parts


def _mean(
    training: Training, packed: Packed, inputs: Inputs, weight: Callable[[np.ndarray], float]
) -> tuple[float, dict[str, float]]:
    """Return the mean of one pass over all rows of `packed`, and the terms that it has."""
    student, worker = training.spec.student, training.worker
    rows = sorted_batches(packed, size=student.per_device_batch * worker.world)
    totals, place, seen = Totals(training.engine.module, worker.device), training.place(training.last_epoch), set[str]()
    with torch.no_grad():
        for share in rows.reshape(-1, worker.world, student.per_device_batch)[:, worker.rank]:
            totals.add(training.engine(*inputs(share), place), training.engine.module.parts)
            seen.update(training.engine.module.parts)
    loss, parts = training.means(totals, weight(rows[rows >= 0]))
    return loss, {name: part for name, part in parts.items() if name in seen}


def keep_best(training: Training) -> None:
    """Write the current weights as the best model. Every rank must call it."""
    weights = zero.weights(training.engine)
    if weights is not None:
        folder = training.scratch / BEST
        shutil.rmtree(folder, ignore_errors=True)
        huggingface.write(training.pruned, weights, folder, dtype=training.spec.student.dtype)
