"""Room 2's door to Ray."""

from collections.abc import Sequence

from ray.data import Dataset

from engine.fleet import stream
from engine.teachers.teacher import Desk, Teacher


def answer(prompts: Dataset, desks: Sequence[Desk]) -> Dataset:
    """PROMPT in, ANSWER out: every teacher answers every prompt; the samples of a prompt stay in one block."""
    first, *others = [stream.apply(prompts, Teacher, desk.pool, desk=desk) for desk in desks]
    return first.union(*others) if others else first
