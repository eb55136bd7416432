"""`rayleigh bench overload`: a server under more load than it can serve, with hostile requests among it.

First the rate that it can serve is measured; then that rate times `--times` is sent, whatever comes back. Memory must
not grow, every request must have an answer, those beyond the queue a 429 with Retry-After at once, and none dies at its deadline.
`--json` prints an `Overload`.
"""

import asyncio
import os
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.contract.profile import load_profile
from engine.records.base import Record
from engine.serving.deployment import Deployment
from jobs import places
from jobs.bench import smoke
from jobs.bench.hostile import Attack, SlowConnections, attack, open_slowly
from jobs.bench.load import Call, Sent, Server, client_of, rayleigh_serve, send_at_rate, send_waiting
from jobs.commands.serve_environment import release_of
from jobs.steps.deployed import deployment_of
from jobs.terminal.console import columns

MEMORY_EVERY = 1.0  # seconds between two looks at the memory
PROBES = 50  # requests that tell about how fast it is
MOST_CAPACITY = 20.0  # seconds of the measurement of its capacity
SPARE_FILES = 512


class Order(NamedTuple):
    """How much load, and of what."""

    minutes: float = 10.0
    times: float = 2.0
    """Of the rate that the server can serve."""
    deadline: float = 30.0
    """Seconds; of the server."""
    queue: int = 64
    """Requests that may wait; of the server."""
    slow: int = 10_000
    """Connections that send the beginning of a request, and no more."""


class Memory(Record):
    """Resident memory of the server's processes while it was under load, in MiB."""

    first: float
    last: float
    peak: float
    slope: float
    """MiB a minute over the second half of the load (Theil and Sen: the median of the slopes between two looks)."""
    low: float
    """95 % interval of the slope."""
    high: float


class Overload(Record):
    """The result."""

    capacity: float
    """Requests a second that the server can serve, its places full."""
    rate: float
    """Requests a second that were sent."""
    seconds: float
    statuses: dict[str, int]
    """HTTP status -> requests; 0: no reply."""
    served_per_second: float
    deadline: float
    served_p50_ms: float | None
    served_p95_ms: float | None
    """Of requests with an answer."""
    refused_p95_ms: float | None
    """Of those with 429: how soon a caller is told."""
    without_retry_after: int
    """Of those with 429."""
    memory: Memory
    attacks: tuple[Attack, ...]
    slow: SlowConnections | None
    after: int
    """Status of a request at the end."""
    exit_status: int | None
    """Of the server, which is told to stop at the end."""


def bench(release: str, order: Order, *, profile: str) -> Overload:
    """Return what a server of `release` did under load.

    Raises:
        MissingArtifact: there is no release.
        ModelError: the server does not start, or answers nothing before the load begins.
    """
    deployment, at_once = served(release, profile)
    calls = calls_of(deployment, smoke.mails(400))
    allow_files(order.slow)
    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as scratch:
        options = ["--deadline", f"{order.deadline:g}", "--queue", str(order.queue)]
        server = rayleigh_serve(release, Path(scratch, "log"), os.environ, *options, profile=profile)
        try:
            server.wait()
            return _measure(server, calls, order, at_once)
        finally:
            server.end()


def _measure(server: Server, calls: Sequence[Call], order: Order, at_once: int) -> Overload:
    capacity = capacity_of(server, calls, at_once, min(MOST_CAPACITY, order.minutes * 15))
    rate, seconds = capacity * order.times, order.minutes * 60
    sent, memory, attacks = asyncio.run(_load(server, calls, rate, seconds))
    slow = asyncio.run(open_slowly(server.url, order.slow)) if order.slow else None
    after = send_waiting(server.url, calls[:1], 1)[0][0].status
    served, refused = ([each.seconds * 1000 for each in sent if each.status == status] for status in (200, 429))
    return Overload(
        capacity=round(capacity, 3), rate=round(rate, 3), seconds=round(seconds, 1),
        statuses={str(status): count for status, count in sorted(Counter(each.status for each in sent).items())},
        served_per_second=round(len(served) / seconds, 3), deadline=order.deadline,
        served_p50_ms=_quantile(served, 0.5), served_p95_ms=_quantile(served, 0.95), refused_p95_ms=_quantile(refused, 0.95),
        without_retry_after=sum(each.status == 429 and not each.retry_after for each in sent),
        memory=_memory(memory), attacks=attacks, slow=slow, after=after, exit_status=server.end(),
    )  # fmt: skip


def served(release: str, profile: str) -> tuple[Deployment, int]:
    """Return the deployment of `release`, and how many requests its engine computes at once.

    Raises:
        MissingArtifact: there is none.
    """
    folder, student = release_of(places.run_folder(release))
    return deployment_of(folder), load_profile(places.profile_path(profile)).evaluator_of(student).max_num_seqs


def calls_of(deployment: Deployment, texts: Sequence[str]) -> list[Call]:
    """Return a request for each text, to the first task unit."""
    unit = next(iter(deployment.units))
    model = f"{deployment.manifest.contract}/{unit}"
    return [Call.of("/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": text}]}) for text in texts]


def capacity_of(server: Server, calls: Sequence[Call], at_once: int, seconds: float) -> float:
    """Return the requests a second that the server answers when all its places are full, measured for about `seconds`."""
    callers = at_once + 4
    _, took = send_waiting(server.url, _repeated(calls, PROBES), callers)
    count = max(2 * callers, round(seconds * PROBES / took))
    sent, took = send_waiting(server.url, _repeated(calls, count), callers)
    return sum(each.status == 200 for each in sent) / took


def as_text(result: Overload) -> str:
    """Return the result for a person."""
    memory, slow = result.memory, result.slow
    lines = [
        f"it can serve {result.capacity:.2f} requests/s; {result.rate:.2f}/s were sent for {result.seconds:g} s",
        "status " + ", ".join(f"{status}: {count}" for status, count in result.statuses.items()),
        f"served {result.served_per_second:.2f}/s ({result.served_per_second / result.capacity:.2f} of what it can serve); "
        f"median {_ms(result.served_p50_ms)}, p95 {_ms(result.served_p95_ms)}, deadline {1000 * result.deadline:.0f} ms",
        f"refused (429) within {_ms(result.refused_p95_ms)} (p95), {result.without_retry_after} without Retry-After",
        f"memory {memory.first:.0f} MiB at first, {memory.last:.0f} at last, {memory.peak:.0f} at most; second half "
        f"{memory.slope:+.2f} MiB a minute ({memory.low:+.2f} to {memory.high:+.2f})",
        columns(
            [[each.name, each.sent, each.expected, _statuses(each.statuses), each.unexpected] for each in result.attacks],
            head=["hostile request", "sent", "expected", "statuses", "other"],
        ),
    ]
    if slow:
        lines.append(f"slow connections {slow.opened}: {_statuses(slow.statuses)}, without a reply {slow.silent}")
    return "\n".join([*lines, f"afterwards a request gets {result.after}; the server ended with {result.exit_status}"])


async def _load(
    server: Server, calls: Sequence[Call], rate: float, seconds: float
) -> tuple[list[Sent], list[tuple[float, float]], tuple[Attack, ...]]:
    looks = list[tuple[float, float]]()
    async with client_of(server.url, 300.0) as client:
        watching = asyncio.create_task(_look(server, looks))
        attacking = asyncio.create_task(attack(server.url, calls[0], seconds))
        sent = await send_at_rate(client, calls, rate, seconds)
        attacks = await attacking
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return sent, looks, attacks


async def _look(server: Server, looks: list[tuple[float, float]]) -> None:
    began = time.monotonic()
    while True:
        looks.append((time.monotonic() - began, await asyncio.to_thread(server.memory_mib)))
        await asyncio.sleep(MEMORY_EVERY)


def _memory(looks: Sequence[tuple[float, float]]) -> Memory:
    from scipy.stats import theilslopes

    at, used = np.array(looks).T
    half = slice(len(at) // 2, None)
    slope, low, high = (0.0, 0.0, 0.0)
    if len(at[half]) > 2:
        found = theilslopes(used[half], at[half] / 60)
        slope, low, high = float(found.slope), float(found.low_slope), float(found.high_slope)
    values = {"first": used[0], "last": used[-1], "peak": used.max(), "slope": slope, "low": low, "high": high}
    return Memory(**{name: round(float(value), 3) for name, value in values.items()})


def allow_files(connections: int) -> None:
    """Raise the limit of open files of this process as far as `connections` need it and the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _repeated(calls: Sequence[Call], count: int) -> list[Call]:
    def endless() -> Iterator[Call]:
        while True:
            yield from calls

    return [call for call, _ in zip(endless(), range(count), strict=False)]


def _quantile(values: Sequence[float], share: float) -> float | None:
    return round(float(np.quantile(values, share)), 1) if values else None


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"


def _statuses(statuses: dict[str, int]) -> str:
    return ", ".join(f"{status}: {count}" for status, count in statuses.items()) or "none"
