"""What runs in the process of an engine (`engine_process.py`): it computes what comes through a pipe.

A thread receives the messages, and reads the requests in them while the engine computes. When the pipe closes, because the other
process has closed it or was killed, the process ends at once, also in the middle of a load, with all that it has started and its
copies of remote folders. It ignores SIGINT and SIGTERM: a supervisor sends them to all processes of a server, which drains.
"""

import logging
import os
import queue
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import psutil

from engine.errors import RayleighError
from engine.inference.batcher import Answers, Arrived, Batcher, Done, Grown, Prepares, batcher_of
from engine.storage.local_copy import keep_copies_in

log = logging.getLogger(__name__)

IGNORED = (signal.SIGINT, signal.SIGTERM)
REST, LONGEST_REST = 5.0, 0.2  # rest before a step while others compute: times the one before, and seconds at most


class Inbox(queue.SimpleQueue[tuple[str, Any]]):
    """Messages that were read."""

    prepare: Callable[[Arrived], None] | None = None
    """What the reading thread calls for each request, once the engine is loaded."""

    def take(self, kind: str, value: Any) -> None:
        """Keep a message; called by the thread that reads."""
        if kind == "add" and self.prepare:
            with suppress(Exception):  # `add` reads the request again, and raises where its error is handled
                self.prepare(value)
        self.put((kind, value))


class Yielding:
    """A batcher that rests before each step while something else computes.

    An idle scheduling class is not enough: CPUs share caches, memory and often their core, and a GPU knows no such class.
    """

    def __init__(self, batcher: Batcher, busy: Any) -> None:
        self.batcher, self.busy, self.took = batcher, busy, 0.0
        self.at_once, self.add, self.abort = batcher.at_once, batcher.add, batcher.abort

    def step(self) -> Sequence[Done | Grown]:
        """Rest, and compute."""
        if self.busy.value:
            time.sleep(min(REST * self.took, LONGEST_REST))
        started = time.monotonic()
        told = self.batcher.step()
        self.took = time.monotonic() - started
        return told


def serve(pipe: Connection, load: Callable[[], Answers], at_once: int, busy: Any | None, scratch: str) -> None:
    """Compute what comes through `pipe`. `busy`: whether something else computes; None: nothing has precedence. `scratch`: where
    copies of remote folders go."""
    os.setpgrp()  # the other process kills the group; in a session of its own an idle scheduling class would count for nothing
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
    if busy is not None:
        _yield_cpu()
    keep_copies_in(scratch)
    inbox = Inbox()
    reader = threading.Thread(target=_read, args=(pipe, inbox, scratch), daemon=True)
    reader.start()
    try:
        _compute(pipe, inbox, load, at_once, busy)
    except OSError:  # the pipe is closed
        reader.join()  # which ends the process


def _compute(pipe: Connection, inbox: Inbox, load: Callable[[], Answers], at_once: int, busy: Any | None) -> None:
    try:
        batcher = batcher_of(load(), at_once)
        inbox.prepare = batcher.prepare if isinstance(batcher, Prepares) else None
        batcher = batcher if busy is None else Yielding(batcher, busy)
    except RayleighError as error:
        pipe.send(("failed", error))
        return
    except BaseException as error:
        log.exception("the engine cannot be loaded")
        pipe.send(("failed", f"{type(error).__name__}: {error}"))
        return
    pipe.send(("ready", None))
    running: set[str] = set()
    while True:
        try:
            told = _turn(batcher, inbox, running, pipe)
        except Exception as error:
            log.exception("the engine failed with %d requests", len(running))
            for ticket in running:
                with suppress(Exception):
                    batcher.abort(ticket)
            running.clear()
            pipe.send(("failed", (type(error).__name__, str(error))))
            continue
        for each in told:
            if isinstance(each, Done):
                running.discard(each.ticket)
            pipe.send(("done" if isinstance(each, Done) else "grown", each))


def _turn(batcher: Batcher, inbox: Inbox, running: set[str], pipe: Connection) -> list[Done | Grown]:
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


def _read(pipe: Connection, inbox: Inbox, scratch: str) -> None:
    with suppress(EOFError, OSError):
        while True:
            inbox.take(*pipe.recv())
    for each in psutil.Process().children(recursive=True):  # what lives on without its parent, such as vLLM's engine core
        with suppress(psutil.Error):
            each.kill()
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(0)


def _yield_cpu() -> None:
    """Let all other processes go first."""
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
