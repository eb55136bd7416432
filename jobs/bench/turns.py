"""Sides that take turns, each in a process of its own with its model loaded: what disturbs the machine disturbs all alike."""

import os
import statistics
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from engine.contract import load_profile
from engine.distributed import ray_options

Ask = Callable[[int], int]
"""Does the first so many of its tasks and returns what is counted: tokens, or marks."""
WARM_UP = 16  # tasks of the round that does not count


class Worker:
    """One side in a process of its own, which does a round at a time, as an actor of the profile's pool `pool` would."""

    def __init__(self, side: Callable[..., None], tasks: int, profile: str, *, pool: str) -> None:
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_seated, args=(side, other, tasks, profile, pool), daemon=True)
        self.process.start()
        other.close()  # a side that dies is heard of
        self.load_seconds: float = self.pipe.recv()  # the sides load one after the other and then wait: one at a time is busy

    def round(self, number: int) -> dict[str, float]:
        """Run a round and return count, seconds and count per second (`speed`)."""
        self.pipe.send(number)
        return self.pipe.recv()

    def end(self) -> None:
        """Let the process go."""
        self.pipe.send(None)
        self.process.join(30)


def _seated(side: Callable[..., None], pipe: Connection, tasks: int, profile: str, pool: str) -> None:
    """Run `side` as an actor runs. What vLLM logs goes to standard error, so that the result stands alone."""
    os.dup2(2, 1)
    os.environ.update(ray_options.environment(getattr(load_profile(Path(profile)), pool)))
    side(pipe, tasks, profile)


def serve(pipe: Connection, prepare: Callable[[int], Ask], tasks: int, started: float) -> None:
    """Answer for a side: `prepare` makes ready for a round of that number, before the clock runs."""
    loading = time.perf_counter() - started
    prepare(0)(WARM_UP)
    pipe.send(loading)
    while (number := pipe.recv()) is not None:
        ask = prepare(number)
        began = time.perf_counter()
        count = ask(tasks)
        seconds = time.perf_counter() - began
        pipe.send({"count": count, "seconds": seconds, "speed": count / seconds})


def told(worker: Worker, rounds: list[dict[str, float]], *, what: str) -> dict[str, Any]:
    """End a side and return `what` (tokens, marks) of a round, per second (the median), with its start-up, and round by round."""
    worker.end()
    count, seconds = rounds[0]["count"], rounds[0]["seconds"]
    return {
        what: count,
        f"{what}_per_second": round(statistics.median(found["speed"] for found in rounds), 1),
        "with_start": round(count / (seconds + worker.load_seconds), 1),
        "rounds": [round(found["speed"], 1) for found in rounds],
    }
