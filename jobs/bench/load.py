"""Servers in processes of their own, and requests to them: from callers that wait for a reply, or at a rate that does not wait."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import httpx
import numpy as np
import psutil

from engine.errors import ModelError
from engine.records.base import Record
from jobs.bench.watch import ROOT, family

READY_SECONDS, DRAIN_SECONDS = 600.0, 60.0
LISTENING = re.compile(r"listening on (http://[\w.:]+)")


class Call(NamedTuple):
    """One request."""

    path: str
    content: bytes
    """JSON, encoded before the load begins: it is the servers that are measured."""

    @classmethod
    def of(cls, path: str, body: Mapping[str, Any]) -> "Call":
        """Return the request with the body `body`."""
        return cls(path, json.dumps(body).encode())


class Sent(NamedTuple):
    """What became of a request."""

    at: float
    """Seconds from the start of the load until it was sent."""
    seconds: float
    """Until the whole reply was there."""
    status: int
    """HTTP status; 0: the connection broke, or nothing came in time."""
    text: str
    """Body of the reply."""
    retry_after: str | None = None


class Latency(Record):
    """How fast a server answers."""

    per_second: float
    """Replies a second."""
    p50_ms: float
    p95_ms: float


class Server:
    """A server in a process of its own. Its output goes to the file `log`."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], *, url: str = "") -> None:
        """`url`: where it will listen; empty: its output says so, as that of `rayleigh serve`."""
        self.log, self.url, self.health = log, url, "/health" if url else "/readyz"
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env=dict(environment))

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            ModelError: it ends before, or is not ready after ten minutes.
        """
        until = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > until:
                end = self.log.read_text(errors="replace")[-3000:]
                self.end()
                raise ModelError(f"the server does not start: {' '.join(self.process.args[:4])} ...\n{end}")  # type: ignore[index]
            time.sleep(0.2)

    def _is_ready(self) -> bool:
        if not self.url and (found := LISTENING.search(self.log.read_text(errors="replace"))):
            self.url = found[1]
        try:
            return bool(self.url) and httpx.get(self.url + self.health, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def numbers(self) -> dict[str, float]:
        """Return the numbers of /metrics that have no labels."""
        text = httpx.get(f"{self.url}/metrics", timeout=10).text
        lines = [line.split() for line in text.splitlines() if line[:1] not in ("", "#") and "{" not in line]
        return {name: float(value) for name, value, *_ in lines}

    def memory_mib(self) -> float:
        """Return the resident memory of the process and those that it started, in MiB."""
        total = 0
        for process in family(self.process.pid):
            with suppress(psutil.Error):
                total += process.memory_info().rss
        return total / 2**20

    def end(self) -> int | None:
        """Let it drain and end; kill what is left of it after a minute. Returns its exit status."""
        rest = family(self.process.pid)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(DRAIN_SECONDS)
        for process in rest:
            with suppress(psutil.Error):
                process.kill()
        return self.process.wait()


def rayleigh_serve(release: str, log: Path, environment: Mapping[str, str], *options: str, profile: str) -> Server:
    """Start `rayleigh serve RELEASE --local` on a free port."""
    words = ["serve", release, "--local", "--port", "0", "--no-follow", "--profile", profile, *options]
    return Server([sys.executable, "-m", "jobs.cli", *words], log, environment)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def send_waiting(url: str, calls: Sequence[Call], callers: int, *, timeout: float = 300.0) -> tuple[list[Sent], float]:
    """Send `calls` from `callers` that each wait for a reply; return what became of them, in order, and the seconds."""

    async def run() -> tuple[list[Sent], float]:
        found, rest = dict[int, Sent](), iter(enumerate(calls))
        async with client_of(url, timeout) as client:
            began = time.perf_counter()

            async def caller() -> None:
                for number, call in rest:  # shared by all callers
                    found[number] = await _send(client, call, began)

            await asyncio.gather(*(caller() for _ in range(callers)))
            return [found[number] for number in range(len(calls))], time.perf_counter() - began

    return asyncio.run(run())


def latency(sent: Sequence[Sent], seconds: float) -> Latency:
    """Return the speed of a load of replies with status 200.

    Raises:
        ModelError: a request was not answered.
    """
    wrong = next((each for each in sent if each.status != 200), None)
    if wrong:
        raise ModelError(f"a request of the benchmark got status {wrong.status}: {wrong.text[:500]}")
    p50, p95 = np.quantile([each.seconds for each in sent], [0.5, 0.95]) * 1000
    return Latency(per_second=round(len(sent) / seconds, 3), p50_ms=round(float(p50), 1), p95_ms=round(float(p95), 1))


async def send_at_rate(client: aiohttp.ClientSession, calls: Sequence[Call], rate: float, seconds: float) -> list[Sent]:
    """Send `rate` requests a second (Poisson) for `seconds`, whatever comes back; return what became of them."""
    draw, began, tasks = np.random.default_rng(0), time.perf_counter(), list[asyncio.Task[Sent]]()
    at = 0.0
    while (at := at + float(draw.exponential(1 / rate))) < seconds:
        await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
        tasks.append(asyncio.create_task(_send(client, calls[len(tasks) % len(calls)], began)))
    return list(await asyncio.gather(*tasks))


def client_of(url: str, timeout: float) -> aiohttp.ClientSession:
    """Return a client without a limit of connections: one whose work for a request does not grow with those that are open."""
    return aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(timeout))


async def _send(client: aiohttp.ClientSession, call: Call, began: float) -> Sent:
    started = time.perf_counter()
    try:
        async with client.post(call.path, data=call.content, headers={"content-type": "application/json"}) as reply:
            text = await reply.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        return Sent(started - began, time.perf_counter() - started, 0, f"{type(error).__name__}: {error}")
    return Sent(started - began, time.perf_counter() - started, reply.status, text, reply.headers.get("retry-after"))
