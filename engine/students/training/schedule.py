"""The learning rate as a function of the step, and the steps of a training."""

import math

from engine.contract.students import Student


def learning_rate(step: int, total: int, student: Student, decay_start: int | None = None) -> float:
    """Return the rate of step `step` (from 0) of at most `total`: linear warm-up, then the student's `schedule`.

    `cosine`: to zero (Loshchilov and Hutter, 2017); after warm-up it equals `get_cosine_schedule_with_warmup` of transformers,
    whose very first step has a rate of zero. `wsd`: constant, and after `decay_start` steps 1 - sqrt to zero (Haegele et al., 2024,
    "Scaling laws and compute-optimal training beyond fixed training durations", who find it better than a linear decay).
    """
    peak, warmup = student.learning_rate, max(1, round(student.warmup_ratio * total))
    if student.warmup_steps is not None:
        warmup = student.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    if student.schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
    if decay_start is None:
        return peak
    return peak * max(0.0, 1 - math.sqrt((step - decay_start) / decay_steps(decay_start, total, student)))


def latest_decay_start(total: int, student: Student) -> int:
    """Return how many of `total` steps come before the decay if nothing begins it earlier."""
    return total - max(1, round(student.decay_ratio * total))


def decay_steps(start: int, total: int, student: Student) -> int:
    """Return the length of a decay that begins after `start` steps: its share of all steps, `start` included, is `decay_ratio`.

    One that nothing began earlier fills what is left of `total`, whichever way the share is rounded.
    """
    if start >= latest_decay_start(total, student):
        return max(1, total - start)
    return max(1, min(total - start, round(start * student.decay_ratio / (1 - student.decay_ratio))))
