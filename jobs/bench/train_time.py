"""The time of `rayleigh bench train`: rounds of all its processes, as many as end within the minutes that it is given."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from engine.records.base import Record
from jobs.bench.turns import Round, Side, Worker

MINUTES = 12.0
Log = Callable[[str], None]


class Spent(Record):
    """Where the time of the benchmark went, of the processes of one part."""

    part: str
    start: float
    """Seconds until its processes were ready: imports, models, and a round that is not measured."""
    rounds: list[float]
    """Seconds of each round, with what is not measured of it (Ray's start, loading)."""


class Clock:
    """The time budget: whether one more round ends within it."""

    def __init__(self, rounds: int, minutes: float, log: Log) -> None:
        self.rounds, self.limit, self.log, self.began = rounds, 60 * minutes, log, time.monotonic()

    def started(self, part: str, seconds: float) -> None:
        """Say how long a process took until it was ready."""
        spent = time.monotonic() - self.began
        self.log(f"{part}: a process is ready after {seconds:.0f} s; {spent:.0f} of {self.limit:.0f} s are over")

    def goes_on(self, seconds: Sequence[float]) -> bool:
        """Return whether another round begins after rounds of `seconds`."""
        spent, limit = time.monotonic() - self.began, self.limit
        if seconds:
            self.log(f"round {len(seconds)} of {self.rounds} took {seconds[-1]:.0f} s; {spent:.0f} of {limit:.0f} s are over")
        if not seconds or len(seconds) >= self.rounds:
            return not seconds
        if fits := spent + max(seconds) <= limit:
            return fits
        self.log(f"no further round: it would end after {spent + max(seconds):.0f} s. Give more minutes, or fewer steps or parts.")
        return False


def measure(
    sides: Sequence[tuple[str, Side]], steps: int, profile: str, clock: Clock
) -> tuple[list[dict[str, Round]], list[Spent]]:
    """Return the rounds, each with all ways of the sides, and where the time went."""
    workers, rounds = list[Worker](), list[dict[str, Round]]()
    seconds: list[list[float]] = [[] for _ in sides]
    try:
        for part, side in sides:
            workers.append(Worker(side, steps, profile, pool="trainer"))
            clock.started(part, workers[-1].load_seconds)
        while clock.goes_on([sum(each) for each in zip(*seconds, strict=True)]):
            found: dict[str, Round] = {}
            for worker, of in zip(workers, seconds, strict=True):
                began = time.monotonic()
                found |= worker.round(len(rounds))
                of.append(time.monotonic() - began)
            rounds.append(found)
    finally:
        for worker in workers:
            with suppress(OSError):  # it may have died, which is what is raised
                worker.end()
    starts, parts = [worker.load_seconds for worker in workers], list(dict.fromkeys(part for part, _ in sides))
    return rounds, [_spent(part, [at for at, side in enumerate(sides) if side[0] == part], starts, seconds) for part in parts]


def _spent(part: str, places: Sequence[int], starts: Sequence[float], seconds: Sequence[Sequence[float]]) -> Spent:
    rounds = [round(float(sum(each)), 1) for each in zip(*(seconds[at] for at in places), strict=True)]
    return Spent(part=part, start=round(sum(starts[at] for at in places), 1), rounds=rounds)
