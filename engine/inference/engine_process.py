"""An engine in a process of its own: it is loaded while another one answers, and killed without a trace in this one.

The process reads its messages in a thread: when the pipe closes, because this process has closed it or was killed, it ends at once,
also in the middle of a load. It ignores SIGINT and SIGTERM: a supervisor sends them to all processes of a server, which drains. Its
temporary files are removed after it.
"""

import multiprocessing
import os
import queue
import signal
import socket
import tempfile
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from engine.contract.models import Sampling
from engine.errors import ModelError
from engine.inference.batcher import Answers, Arrived, Batcher, Done, Grown, batcher_of
from engine.inference.engine import Completion, Request

TICK = 0.05  # seconds that a step waits for a completion, unless it is woken
WAKES = 4096  # wakes that are seen as one
REST = 5.0  # of the time of its last step: how long an engine in the background rests before the next one, if others compute
GRACE = 5.0  # seconds that the process has to end by itself


class EngineGone(ModelError):
    """The process of an engine has ended, or hangs and was killed."""


class EngineProcess:
    """A batcher whose engine is in another process. Used by one thread, but for `wake`.

    Raises:
        ModelError: the engine cannot be loaded.
    """

    def __init__(
        self, load: Callable[[], Answers], at_once: int, *, background: bool = False, patience: float | None = None
    ) -> None:
        """`load` is picklable and called in the process. `background`: it computes only when nothing else wants the CPU, and seldom
        after `give_way(True)`. `patience`: seconds without a completion, while requests run, after which the process is killed;
        None: never."""
        self.at_once, self.patience = at_once, patience
        self.running: set[str] = set()
        self.unheard: set[str] = set()  # those that run, and those given up of which the process has not said so yet
        self.heard = 0.0  # when the last message came, or the first request that waits for one was sent
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.waker, self.woken = socket.socketpair()
        self.waker.setblocking(False)
        scratch = tempfile.TemporaryDirectory(prefix="rayleigh-", ignore_cleanup_errors=True)
        self.busy = context.RawValue("b", False)
        arguments = (theirs, load, at_once, self.busy if background else None, scratch.name)
        self.process = context.Process(target=_serve, args=arguments, name="engine")
        self.process.start()
        theirs.close()
        ours = (self.pipe, self.waker, self.woken)
        self.close = weakref.finalize(self, _end, ours, self.process, scratch)  # called at the exit of this process, too
        kind, value = self._receive()
        if kind != "ready":
            self.close()
            raise ModelError(str(value))

    def batcher(self, at_once: int) -> "EngineProcess":
        """Return itself: the places are those of the process."""
        return self

    def add(self, arrived: Arrived) -> Completion | None:
        """Send a request.

        Raises:
            EngineGone: the process has ended.
        """
        self._send(("add", arrived))
        if not self.unheard:
            self.heard = time.monotonic()
        self.running.add(arrived.ticket)
        self.unheard.add(arrived.ticket)
        return None

    def step(self) -> Sequence[Done | Grown]:
        """Wait a moment for completions, for texts that grow, or until it is woken.

        Raises:
            EngineGone: the process has ended, or gave no completion for `patience` seconds and was killed.
            RuntimeError: the engine failed; requests that run are lost.
        """
        told: list[Done | Grown] = []
        if not self.running:
            return told
        self._await()
        while self._is_heard():
            kind, value = self._receive()
            self.heard = time.monotonic()
            if kind == "failed":
                raise RuntimeError(value)
            self._hear(kind, value, told)
        if self.patience and self.unheard and time.monotonic() - self.heard > self.patience:
            self.process.kill()
            raise EngineGone(f"the engine's process gave no answer for {self.patience:g} s and was killed")
        return told

    def wake(self) -> None:
        """Let a step that waits return: another request may join. Called by any thread."""
        with suppress(OSError):  # it is closed, or as many wakes as it holds have not been seen yet
            self.waker.send(b"w")

    def give_way(self, is_busy: bool) -> None:
        """Say whether something else computes now, to which an engine in the background gives way."""
        self.busy.value = is_busy

    def abort(self, ticket: str) -> None:
        """Give up a request."""
        if ticket in self.running:
            self.running.discard(ticket)
            with suppress(EngineGone):
                self._send(("abort", ticket))

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Return the completions of `requests`, in order.

        Raises:
            EngineGone, RuntimeError: as `step`.
        """
        tickets = [uuid.uuid4().hex for _ in requests]
        for ticket, request in zip(tickets, requests, strict=True):
            self.add(Arrived(ticket, request, sampling))
        found: dict[str, Completion] = {}
        while len(found) < len(tickets):
            found |= {told.ticket: told.completion for told in self.step() if isinstance(told, Done)}
        return [found[ticket] for ticket in tickets]

    def _hear(self, kind: str, value: Any, told: list[Done | Grown]) -> None:
        ticket = value if kind == "aborted" else value.ticket
        if kind in ("done", "grown") and ticket in self.running:
            told.append(value)
        if kind != "grown":
            self.unheard.discard(ticket)
            self.running.discard(ticket)

    def _send(self, message: tuple[str, Any]) -> None:
        try:
            self.pipe.send(message)
        except OSError:
            raise self._gone() from None

    def _await(self) -> None:
        try:
            if self.woken in wait([self.pipe, self.woken], TICK):
                self.woken.recv(WAKES)
        except OSError:
            raise self._gone() from None

    def _is_heard(self) -> bool:
        try:
            return self.pipe.poll()
        except OSError:
            raise self._gone() from None

    def _receive(self) -> tuple[str, Any]:
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            raise self._gone() from None

    def _gone(self) -> EngineGone:
        self.process.join(GRACE)
        return EngineGone(f"the engine's process has ended with exit code {self.process.exitcode}")


def _end(ours: Sequence[Any], process: SpawnProcess, scratch: tempfile.TemporaryDirectory[str]) -> None:
    """End the process: it does so itself when the pipe closes."""
    for each in ours:
        each.close()
    process.join(GRACE)
    if process.is_alive():
        process.kill()
        process.join()
    scratch.cleanup()


class _Yielding:
    """A batcher that rests before each step while something else computes.

    An idle scheduling class is not enough: CPUs share caches, memory and often their core, and a GPU knows no such class.
    """

    def __init__(self, batcher: Batcher, busy: Any) -> None:
        self.batcher, self.busy, self.took = batcher, busy, 0.0
        self.at_once, self.add, self.abort = batcher.at_once, batcher.add, batcher.abort

    def step(self) -> Sequence[Done | Grown]:
        """Rest, and compute."""
        if self.busy.value:
            time.sleep(REST * self.took)
        started = time.monotonic()
        told = self.batcher.step()
        self.took = time.monotonic() - started
        return told


def _serve(pipe: Connection, load: Callable[[], Answers], at_once: int, busy: Any | None, scratch: str) -> None:
    """Compute what comes through `pipe`; runs in the process. `busy`: something else computes; None: nothing has precedence."""
    tempfile.tempdir = scratch
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if busy is not None:
        _yield_cpu()
    inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(pipe, inbox), daemon=True).start()
    try:
        batcher = batcher_of(load(), at_once)
        batcher = batcher if busy is None else _Yielding(batcher, busy)
    except BaseException as error:
        pipe.send(("failed", f"{type(error).__name__}: {error}"))
        return
    pipe.send(("ready", None))
    running: set[str] = set()
    while True:
        try:
            told = _turn(batcher, inbox, running, pipe)
        except Exception as error:
            for ticket in running:
                with suppress(Exception):
                    batcher.abort(ticket)
            running.clear()
            pipe.send(("failed", f"{type(error).__name__}: {error}"))
            continue
        for each in told:
            if isinstance(each, Done):
                running.discard(each.ticket)
            pipe.send(("done" if isinstance(each, Done) else "grown", each))


def _turn(batcher: Batcher, inbox: "queue.SimpleQueue[tuple[str, Any]]", running: set[str], pipe: Connection) -> list[Done | Grown]:
    """Read all messages, waiting for one if nothing runs, and compute one step."""
    done: list[Done] = []
    while not inbox.empty() or not (running or done):
        kind, value = inbox.get()
        if kind == "abort":
            batcher.abort(value)
            running.discard(value)
            pipe.send(("aborted", value))
            continue
        running.add(value.ticket)
        completion = batcher.add(value)
        done += [Done(value.ticket, completion)] if completion else []
    return [*done, *batcher.step()]


def _read(pipe: Connection, inbox: "queue.SimpleQueue[tuple[str, Any]]") -> None:
    with suppress(EOFError, OSError):
        while True:
            inbox.put(pipe.recv())
    os._exit(0)


def _yield_cpu() -> None:
    """Let all other processes go first."""
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
