"""Validation at the end of each epoch: its loss, the best model so far, and whether the training is over."""

import shutil
import time

import torch

from engine.students.data.pack import sorted_batches
from engine.students.export import huggingface
from engine.students.training import zero
from engine.students.training.schedule import learning_rate
from engine.students.training.state import BEST, Training


def validate(training: Training) -> None:
    """Compute the validation loss, keep the weights if it is the lowest so far, and decide whether the training is over."""
    student, worker, progress, began = training.spec.student, training.worker, training.progress, time.monotonic()
    packed = training.splits["validation"]
    rows = sorted_batches(packed, size=student.per_device_batch * worker.world)
    total = torch.zeros((), device=worker.device)
    training.engine.eval()
    with torch.no_grad():
        for share in rows.reshape(-1, worker.world, student.per_device_batch)[:, worker.rank]:
            total += training.engine(training.batch(packed, share))
    training.engine.train()
    loss = training.sum_over_workers(total) / packed.weight(rows.ravel())
    progress.update_best(loss, student.early_stop)
    if progress.best_step == progress.step:
        keep_best(training)
    progress.is_over = progress.stopped_early or progress.step >= training.total_steps
    training.record("validation", loss, learning_rate(progress.step, training.total_steps, student), began)


def keep_best(training: Training) -> None:
    """Write the current weights as the best model. Every rank must call it."""
    weights = zero.weights(training.engine)
    if weights is not None:
        folder = training.scratch / BEST
        shutil.rmtree(folder, ignore_errors=True)
        huggingface.write(training.pruned, weights, folder, dtype=training.spec.student.dtype)
