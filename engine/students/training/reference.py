"""Log-probabilities of preference pairs under the initial model, which DPO compares with. Computed once, before the first step."""

import numpy as np
import torch
import torch.distributed as dist

from engine.students.data.pack import sorted_batches
from engine.students.training.preferences import Preferences
from engine.students.training.state import Training


def capture_reference(training: Training, preferences: Preferences) -> None:
    """Fill in the reference of both splits, each worker its share, as a training step computes them. Every rank must call it."""
    student, worker = training.spec.student, training.worker
    training.engine.eval()
    for split, pairs in preferences.splits.items():
        found = torch.zeros(2 * len(pairs), device=worker.device)
        rows = sorted_batches(pairs.chosen, size=student.per_device_batch * worker.world)
        with torch.no_grad():
            for share in rows.reshape(-1, worker.world, student.per_device_batch)[:, worker.rank]:
                log_probs = training.engine(None, training.pair_batch(split, share), None)
                sides = np.concatenate([2 * share, 2 * share + 1])
                real = torch.from_numpy(np.concatenate([share, share]) >= 0).to(worker.device)
                found[torch.from_numpy(sides).to(worker.device)[real]] = log_probs.float()[real]
        if worker.world > 1:
            dist.all_reduce(found)  # every number has one worker's value, all others have 0
        preferences.reference[split] = found.cpu().numpy()
    training.engine.train()
