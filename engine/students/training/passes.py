"""Forward passes of a training: what each reads, and the means of the loss and of its parts over micro-batches and workers."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from engine.students.data.batch import Batch, PreferenceBatch
from engine.students.data.pack import Packed, sorted_batches
from engine.students.data.pairs import collate_pairs, shared
from engine.students.training.loss_module import Place, Totals
from engine.students.training.state import Training

NO_PAIRS = np.empty(0, np.int64)
Inputs = tuple[Batch | None, PreferenceBatch | None]


class Mean(NamedTuple):
    """A mean loss."""

    loss: float  # nats per target token, and per pair
    parts: dict[str, float]  # objective -> its term; empty if one objective is all

    @property
    def column(self) -> list[dict[str, str | float]] | None:
        """The column `parts` of STEP."""
        return [{"objective": name, "loss": part} for name, part in self.parts.items()] if len(self.parts) > 1 else None


class Shares(NamedTuple):
    """What one worker reads in an optimizer step: one entry for each micro-batch; -1 pads."""

    examples: np.ndarray  # [micro, examples]
    pairs: list[np.ndarray]  # preference pairs, none if no objective reads them
    pair_count: int  # of all workers
    weight: float  # by which the summed loss of the examples is divided: their target tokens by weight; pairs where all are


def shares(training: Training, rows: np.ndarray) -> Shares:
    """Return this worker's share of the step's batch `rows`, which are examples, or pairs if no objective reads examples."""
    student, worker, each = training.spec.student, training.worker, training.preferences
    examples = rows.reshape(-1, worker.world, student.per_device_batch)[:, worker.rank]
    weight = training.splits["train"].weight(rows) or 1.0  # a batch of weight 0 teaches nothing
    if each is None:
        return Shares(examples, [NO_PAIRS] * len(examples), 0, weight)
    if each.is_alone:
        count = int((rows >= 0).sum())
        return Shares(examples, [*examples], count, float(count))
    chosen = each.of_step(training.progress.step, training.epoch_steps, student.seed)
    return Shares(examples, [*shared(chosen, micro=len(examples), world=worker.world, rank=worker.rank)], len(chosen), weight)


def inputs(training: Training, split: str, examples: np.ndarray, pairs: np.ndarray) -> Inputs:
    """Return what one forward pass reads of `split`."""
    each = training.preferences
    is_alone = each is not None and each.is_alone
    batch = None if is_alone else training.batch(training.splits[split], examples)
    return batch, pair_batch(training, split, pairs) if len(pairs) else None


def pair_batch(training: Training, split: str, rows: np.ndarray) -> PreferenceBatch:
    """Return the pairs `rows` of `split` on the worker's device; -1 is a pair of padding."""
    assert training.preferences is not None
    pairs, reference = training.preferences.splits[split], training.preferences.reference.get(split)
    return collate_pairs(pairs, rows, reference=reference, pad=training.pad).to(training.worker.device)


def place(training: Training, epoch: int | None = None, *, pair_factor: float = 1.0) -> Place:
    """Return what LossModule is told about where the training is; without `epoch`, in its last one."""
    last = training.epochs - 1
    return Place(last if epoch is None else min(epoch, last), training.epochs, pair_factor)


def mean(training: Training, totals: Totals, weight: float) -> Mean:
    """Return the sums of all workers by `weight`."""
    if training.worker.world > 1:
        dist.all_reduce(totals.values)
    loss, *parts = (value / weight for value in totals.values.tolist())
    return Mean(loss, {name: part for name, part in zip(totals.names, parts, strict=True) if name in totals.seen})


def validation_loss(training: Training) -> Mean:
    """Return the mean loss of the validation split, with the schedules of the last epoch. Every rank must call it."""
    packed, each = training.splits["validation"], training.preferences
    found = []
    training.engine.eval()
    if each is None or not each.is_alone:
        found.append(_pass(training, packed, lambda rows: (training.batch(packed, rows), None), packed.weight))
    if each is not None:
        chosen = each.splits["validation"].chosen
        found.append(_pass(training, chosen, lambda rows: (None, pair_batch(training, "validation", rows)), len))
    training.engine.train()
    return Mean(sum(part.loss for part in found), {name: term for part in found for name, term in part.parts.items()})


def _pass(training: Training, packed: Packed, reads: Callable[[np.ndarray], Inputs], weigh: Callable[[np.ndarray], float]) -> Mean:
    """Return the mean over all rows of `packed`; `weigh` tells by what their sum is divided."""
    student, worker = training.spec.student, training.worker
    rows = sorted_batches(packed, size=student.per_device_batch * worker.world)
    totals, last = Totals(training.engine.module, worker.device), place(training)
    with torch.no_grad():
        for share in rows.reshape(-1, worker.world, student.per_device_batch)[:, worker.rank]:
            totals.add(training.engine(*reads(share), last), training.engine.module.parts)
    return mean(training, totals, weigh(rows[rows >= 0]))


def capture_reference(training: Training) -> None:
    """Compute the log-probabilities of all pairs under the initial model, each worker its share. Every rank must call it."""
    student, worker, each = training.spec.student, training.worker, training.preferences
    assert each is not None, "an objective reads pairs"
    training.engine.eval()
    for split, pairs in each.splits.items():
        found = torch.zeros(2 * len(pairs), device=worker.device)
        rows = sorted_batches(pairs.chosen, size=student.per_device_batch * worker.world)
        with torch.no_grad():
            for share in rows.reshape(-1, worker.world, student.per_device_batch)[:, worker.rank]:
                log_probs = training.engine(None, pair_batch(training, split, share), None)
                sides = torch.from_numpy(np.concatenate([2 * share, 2 * share + 1])).to(worker.device)
                real = torch.from_numpy(np.concatenate([share, share]) >= 0).to(worker.device)
                found[sides[real]] = log_probs.float()[real]
        if worker.world > 1:
            dist.all_reduce(found)  # each number is one worker's, all others have 0
        each.reference[split] = found.cpu().numpy()
    training.engine.train()
