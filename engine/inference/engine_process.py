"""An engine in a process of its own: it is loaded while another one answers, and killed without a trace in this one.

It shares neither this interpreter's lock nor what vLLM keeps of a forward pass. `engine_child.py` runs in the process, which leads
a group: vLLM's engine core on a GPU is yet another process, and ends with it.
"""

import atexit
import multiprocessing
import os
import signal
import socket
import tempfile
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

from engine.contract.models import Sampling
from engine.errors import ModelError, RayleighError
from engine.inference.batcher import Answers, Arrived, Done, Grown
from engine.inference.engine import Completion, Request
from engine.inference.engine_child import IGNORED, serve

TICK = 0.05  # seconds that a step waits for a completion, unless it is woken
WAKES = 4096  # wakes that are seen as one
GRACE = 5.0  # seconds that the process has to end by itself


class EngineGone(ModelError):
    """The process of an engine has ended, or hangs and was killed."""


class EngineFailed(RuntimeError):
    """The engine failed, and with it all that it computed; its process goes on."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind  # class of the error in the process


class EngineProcess:
    """A batcher whose engine is in another process. Used by one thread, but for `wake`, `give_way` and `kill`."""

    def __init__(
        self, load: Callable[[], Answers], at_once: int, *, background: bool = False, patience: float | None = None
    ) -> None:
        """Begin to load; `ready` waits for it. `load` is picklable and called in the process. `background`: it computes only when
        nothing else wants the CPU, and seldom after `give_way(True)`. `patience`: seconds without a completion, while requests run,
        after which the process is killed; None: never."""
        self.at_once, self.patience = at_once, patience
        self.running: set[str] = set()
        self.unheard: set[str] = set()  # those that run, and those given up of which the process has not said so yet
        self.heard = 0.0  # when the last message came, or the first request that waits for one was sent
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.waker, self.woken = socket.socketpair()
        self.waker.setblocking(False)
        self.busy = context.RawValue("b", False)
        scratch = tempfile.TemporaryDirectory(prefix="rayleigh-", ignore_cleanup_errors=True)
        arguments = (theirs, load, at_once, self.busy if background else None, scratch.name)
        self.process = context.Process(target=serve, args=arguments, name="engine")
        self.close = weakref.finalize(self, _end, (self.pipe, self.waker, self.woken), self.process, scratch)
        atexit.register(self.close)  # runs before multiprocessing's own function at the exit, which waits for processes
        resource_tracker.ensure_running()  # started with the first process, it would unblock the signals
        try:
            with _blocked(IGNORED):  # until the process ignores them
                self.process.start()
        except BaseException:
            self.close()
            raise
        finally:
            theirs.close()

    def ready(self) -> "EngineProcess":
        """Wait until the engine is loaded; return itself.

        Raises:
            RayleighError: what the load raised.
            ModelError: the engine cannot be loaded, or its process has ended.
        """
        try:
            while not self._is_heard(TICK):
                self.check()
            kind, value = self._receive()
        except EngineGone:
            self.close()
            raise
        if kind == "ready":
            return self
        self.close()
        raise value if isinstance(value, RayleighError) else ModelError(value)

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
            EngineFailed: requests that run are lost.
        """
        told: list[Done | Grown] = []
        if not self.running:
            return told
        self._await()
        while self._is_heard():
            kind, value = self._receive()
            self.heard = time.monotonic()
            if kind == "failed":
                raise EngineFailed(*value)
            self._hear(kind, value, told)
        if self.patience and self.unheard and time.monotonic() - self.heard > self.patience:
            self.kill()
            raise EngineGone(f"the engine's process gave no answer for {self.patience:g} s and was killed")
        return told

    def check(self) -> None:
        """Raise EngineGone if the process has ended."""
        if not self.process.is_alive():
            raise self._gone()

    def wake(self) -> None:
        """Let a step that waits return: another request may join. Called by any thread."""
        with suppress(OSError):  # as many wakes as it holds have not been seen yet
            self.waker.send(b"w")

    def give_way(self, is_busy: bool) -> None:
        """Say whether something else computes now, to which an engine in the background gives way. Called by any thread."""
        self.busy.value = is_busy

    def kill(self) -> None:
        """Kill the process. Called by any thread."""
        _kill(self.process)

    def abort(self, ticket: str) -> None:
        """Give up a request."""
        if ticket in self.running:
            self.running.discard(ticket)
            with suppress(EngineGone):
                self._send(("abort", ticket))

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Return the completions of `requests`, in order.

        Raises:
            EngineGone, EngineFailed: as `step`.
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
            found = wait([self.pipe, self.woken], TICK)
            if self.woken in found:
                self.woken.recv(WAKES)
        except OSError:
            raise self._gone() from None
        if not found:  # a process that it has started may hold the other end of the pipe, so that the pipe does not tell
            self.check()

    def _is_heard(self, seconds: float = 0.0) -> bool:
        try:
            return self.pipe.poll(seconds)
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


@contextmanager
def _blocked(signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Block `signals` in this thread, and in processes that it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(ours: Sequence[Any], process: SpawnProcess, scratch: tempfile.TemporaryDirectory[str]) -> None:
    """End the process: it does so itself when the pipe closes."""
    for each in ours:
        each.close()
    if process.pid is not None:
        process.join(GRACE)
        _kill(process)
        process.join()
    scratch.cleanup()


def _kill(process: SpawnProcess) -> None:
    """Kill a process and its group."""
    assert process.pid is not None
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # it may not lead its group yet
