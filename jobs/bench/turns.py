"""Two sides that take turns, each in a process of its own with its model loaded: a busy machine slows both alike."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from engine.contract.profile import load_profile
from engine.distributed import ray_options
from engine.records.base import Record
from jobs.terminal.environment import set_environment

Side = Callable[[Connection, int, str], None]
"""Serves rounds of a number of tasks over a connection, on a profile."""
RunTasks = Callable[[int], int]
"""Runs the first n tasks and returns the count of its unit: tokens, or scores."""
WARM_UP = 16  # tasks of the round that is not measured


@dataclass(frozen=True)
class Round:
    """One measured round of one side."""

    count: int
    seconds: float

    @property
    def per_second(self) -> float:
        """The count divided by the seconds."""
        return self.count / self.seconds


class Throughput(Record):
    """How fast one side is. The unit of `count` is tokens or scores."""

    count: int
    """Of one round."""
    per_second: float
    """Without start-up: the median of the rounds; of a job from its first batch in the ledger to its end."""
    with_start: float
    """The same with the loading of the model; of a job with the start of its processes."""
    rounds: tuple[float, ...] = ()
    """`per_second` of each round; empty for a job, which runs once."""


class Worker:
    """One side in a process of its own, with the environment of an actor of the profile's pool `pool`."""

    def __init__(self, side: Side, tasks: int, profile: str, *, pool: str) -> None:
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_main, args=(side, other, tasks, profile, pool), daemon=True)
        self.process.start()
        other.close()  # so that `recv` raises EOFError if the process dies
        self.load_seconds: float = self.pipe.recv()  # waits: the sides load one after the other

    def round(self, number: int) -> Any:
        """Run one round; return what the side sent, a `Round` of those that take turns."""
        self.pipe.send(number)
        return self.pipe.recv()

    def last_round(self) -> Any:
        """Run one round and end the process; return what the side sent."""
        try:
            return self.round(1)
        finally:
            self.end()

    def end(self) -> None:
        """End the process."""
        self.pipe.send(None)
        self.process.join(30)


def _main(side: Side, pipe: Connection, tasks: int, profile: str, pool: str) -> None:
    """Run `side` with the environment of an actor. Output goes to standard error, so that stdout has the result alone."""
    os.dup2(2, 1)
    os.environ.update(ray_options.environment(getattr(load_profile(Path(profile)), pool)))
    side(pipe, tasks, profile)


def serve(pipe: Connection, prepare: Callable[[int], RunTasks], tasks: int, started: float) -> None:
    """Run the rounds that the parent process asks for; `prepare` is called with a round's number before its clock starts."""
    loading = time.perf_counter() - started
    prepare(0)(WARM_UP)
    pipe.send(loading)
    while (number := pipe.recv()) is not None:
        run_tasks = prepare(number)
        began = time.perf_counter()
        count = run_tasks(tasks)
        pipe.send(Round(count, time.perf_counter() - began))


def take_turns(
    bare: Side, stage: Side, tasks: int, rounds: int, *, profile: str, pool: str
) -> tuple[Throughput, Throughput, float]:
    """Return the throughput of both sides, and the median over the rounds of `stage` by `bare` within a round."""
    set_environment(load_profile(Path(profile)))
    workers = [Worker(side, tasks, profile, pool=pool) for side in (bare, stage)]
    turns = [[worker.round(number) for worker in workers] for number in range(1, rounds + 1)]
    of_bare, of_stage = (_throughput(*side) for side in zip(workers, zip(*turns, strict=True), strict=True))
    return of_bare, of_stage, round(statistics.median(turn[1].per_second / turn[0].per_second for turn in turns), 3)


def _throughput(worker: Worker, rounds: Sequence[Round]) -> Throughput:
    """End the process of a side and return its throughput."""
    worker.end()
    count, speeds = rounds[0].count, [measured.per_second for measured in rounds]
    return Throughput(
        count=count,
        per_second=round(statistics.median(speeds), 1),
        with_start=round(count / (rounds[0].seconds + worker.load_seconds), 1),
        rounds=tuple(round(speed, 1) for speed in speeds),
    )


def as_text(result: Record, *, unit: str) -> str:
    """Return a line per way of `result`, a record of Throughput fields, and its `ratio` to bare vLLM; `unit` is that of `count`."""
    parts = dict(result)
    lines = [f"{name}: {part.per_second} {unit}/s" for name, part in parts.items() if isinstance(part, Throughput)]
    return "\n".join([*lines, f"ratio to bare vLLM: {parts['ratio'].model_dump()}"])
