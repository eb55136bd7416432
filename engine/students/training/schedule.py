"""The learning rate as a function of the step."""

import math

from engine.contract.students import Student


def learning_rate(step: int, total: int, student: Student) -> float:
    """Return the rate of step `step` (from 0) of `total`: linear warm-up, then a cosine to zero (Loshchilov and Hutter, 2017).

    After warm-up it equals `get_cosine_schedule_with_warmup` of transformers, whose very first step has a rate of zero.
    """
    warmup = max(1, round(student.warmup_ratio * total))
    if step < warmup:
        return student.learning_rate * (step + 1) / warmup
    return student.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
