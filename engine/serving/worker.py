"""One thread that owns an engine, and a bounded queue in front of it: requests join the running batch as places become free."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from engine.contract.models import Sampling
from engine.inference.batcher import Answers, Arrived, Batcher, Done, Grown, batcher_of
from engine.inference.engine import Completion, Request
from engine.inference.engine_process import EngineFailed, EngineGone, EngineProcess
from engine.serving.pace import Pace
from engine.serving.refusals import Busy, EngineFault, Expired, Unavailable
from engine.serving.ticket import Computed, Ticket

log = logging.getLogger(__name__)

FAULTS = 3  # failures of the engine in a row, without a completed request between them, after which it is given up
LOOK = 1.0  # seconds between two looks at the process of an idle engine

FULL, LATE = "The queue is full.", "The queue is too long for the request's deadline."


class Load(NamedTuple):
    """How an engine is loaded and filled."""

    engine: Callable[[], Answers]
    """Called once, in the thread that owns the engine."""
    sampling: Sampling
    at_once: int
    """Requests that the engine computes at the same time."""
    queue: int
    """Requests that may wait besides."""
    warm_up: Sequence[Request] = ()
    """Sent before the first request, one by one."""


class Worker:
    """Answers requests with one engine. `ask` is called in an event loop; the engine is touched by the worker's thread alone."""

    def __init__(self, load: Load, *, on_fatal: Callable[[BaseException], None] = lambda error: None) -> None:
        """`on_fatal` is called in the thread once the engine cannot be loaded, or has failed for good."""
        self.load, self.on_fatal = load, on_fatal
        self.changed = threading.Condition()
        self.waiting: deque[Ticket] = deque()
        self.running: dict[str, Ticket] = {}
        self.given_up: list[Ticket] = []
        self.is_ready = self.is_stopping = False
        self.fault: BaseException | None = None
        self.pace = Pace()
        self.faults = 0
        self.process: EngineProcess | None = None  # of the engine, if it has one of its own
        self.after: Worker | None = None  # is loaded before
        self.loaded = threading.Event()  # set once the engine is loaded, or cannot be
        self.thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self, after: "Worker | None" = None) -> None:
        """Load the engine, once that of `after` is loaded, and begin to answer."""
        self.after = after
        self.thread.start()

    async def ask(self, request: Request, *, deadline: float, grown: Callable[[str], None] | None = None) -> Computed:
        """Return the completion of `request`. A caller that is cancelled gives its request up, also in the engine.

        `grown` is called in the event loop with the beginnings of its text, longer and longer, if the engine gives them.

        Raises:
            Busy: the queue is full, or the request would wait until its `deadline` (of `time.monotonic`), as was expected when it
                came or turned out later.
            Expired: the deadline has passed.
            Unavailable: the engine is loading, has failed or stops.
            EngineFault: the engine failed.
        """
        loop = asyncio.get_running_loop()
        ticket = Ticket(request, loop, loop.create_future(), deadline, time.monotonic(), grown)
        with self.changed:
            self._admit(deadline - ticket.arrived)
            self.waiting.append(ticket)
            self._notify()
        try:
            async with asyncio.timeout(deadline - ticket.arrived):
                return await ticket.future
        except TimeoutError:
            with self.changed:
                self.pace.broken(ticket.elapsed)
                ticket.measured = True
            raise Expired from None
        finally:
            if not ticket.future.done() or ticket.future.cancelled():
                with self.changed:
                    ticket.given_up = True
                    self.given_up.append(ticket)
                    with suppress(ValueError):  # it runs
                        self.waiting.remove(ticket)
                    self._notify()

    def check_room(self, deadline: float) -> None:
        """Check that a request would be taken now: whoever is refused anyway costs nothing more.

        Raises:
            Busy, Unavailable: as `ask`.
        """
        with self.changed:
            self._admit(deadline - time.monotonic())

    def give_way(self, is_busy: bool) -> None:
        """Say whether something else computes now, to which an engine in the background gives way."""
        if process := self.process:
            process.give_way(is_busy)

    def stop(self, seconds: float) -> None:
        """Take no further request, and wait at most `seconds` for those that were taken."""
        with self.changed:
            self.is_stopping, self.is_ready = True, False
            self._notify()
            if self.process and not self.loaded.is_set():
                self.process.kill()  # nobody waits for what it loads
        if self.thread.ident is not None:
            self.thread.join(seconds)

    def _notify(self) -> None:
        """Tell the thread that something has changed, whatever it waits for."""
        self.changed.notify()
        if self.process:
            self.process.wake()

    def _admit(self, left: float) -> None:
        """Refuse a request that has `left` seconds until its deadline if there is no room for it."""
        if not self.is_ready:
            raise Unavailable("stops" if self.is_stopping else "has failed" if self.fault else "is loading")
        ahead = len(self.waiting) + len(self.running)
        is_full = ahead >= self.load.queue + self.load.at_once
        if is_full or self.pace.is_late(ahead, left):
            raise Busy(FULL if is_full else LATE, self.pace.retry_after(ahead))

    def _run(self) -> None:
        try:
            while self.after and not self.is_stopping and not self.after.loaded.wait(LOOK):
                pass
            batcher = self._load()
        except BaseException as error:
            if not self.is_stopping:
                self._fail_for_good(error)
            self._close()
            return
        finally:
            self.loaded.set()
        with self.changed:
            self.is_ready = not self.is_stopping
        while self._turn(batcher):
            pass
        self._close()

    def _load(self) -> Batcher:
        if self.is_stopping:
            raise Unavailable("stops")
        engine = self.load.engine()
        if isinstance(engine, EngineProcess):
            with self.changed:
                self.process = engine
                if self.is_stopping:
                    engine.kill()
            engine.ready()
        for request in self.load.warm_up:
            engine.complete([request], self.load.sampling)
        return batcher_of(engine, self.load.at_once)

    def _turn(self, batcher: Batcher) -> bool:
        """Compute one step; return False once the worker has stopped."""
        try:
            with self.changed:
                if not self.running:
                    self._await()
                if self.is_stopping and not self.waiting and not self.running:
                    return False
                given_up, self.given_up = self.given_up, []
                self._refuse_late()
                joining = self._joining()
            for ticket in given_up:
                batcher.abort(ticket.name)
                with self.changed:
                    if not ticket.measured:
                        self.pace.given_up(ticket.elapsed)
                    self.running.pop(ticket.name, None)
            self._step(batcher, joining)
        except Exception as error:
            log.exception("the engine failed with %d requests", len(self.running))
            return self._recover(batcher, error)
        return True

    def _await(self) -> None:
        """Wait for something to do."""
        while not (self.waiting or self.given_up or self.is_stopping):
            self.changed.wait(LOOK)
            if self.process:
                self.process.check()
        self.pace.resume(time.monotonic())

    def _refuse_late(self) -> None:
        """Refuse those that wait and cannot be answered in time any more, as the engine is slower than was expected of it."""
        now, kept, is_late = time.monotonic(), deque[Ticket](), False
        for ticket in self.waiting:
            ahead = len(self.running) + len(kept)
            if ticket.given_up:
                continue
            if ahead and now + self.pace.expected(ahead) > ticket.deadline:
                is_late = True
                self._refuse(ticket, Busy(LATE, self.pace.retry_after(ahead)))
            else:
                kept.append(ticket)
        self.waiting = kept
        if is_late:
            self.pace.broken()  # once: what refuses many at the same time is one change of the engine

    def _joining(self) -> list[Ticket]:
        """Take as many requests from the queue as there are places; leave out those that nobody waits for any more."""
        joining: list[Ticket] = []
        while self.waiting and len(self.running) < self.load.at_once:
            ticket = self.waiting.popleft()
            if not ticket.given_up:
                self.running[ticket.name] = ticket
                joining.append(ticket)
        return joining

    def _step(self, batcher: Batcher, joining: Sequence[Ticket]) -> None:
        started = time.monotonic()
        told: list[Done | Grown] = []
        for ticket in joining:
            ticket.joined = started
            completion = batcher.add(Arrived(ticket.name, ticket.request, self.load.sampling, ticket.grown is not None))
            told += [Done(ticket.name, completion)] if completion else []
        told += batcher.step()
        ended = time.monotonic()
        passed, sharing = self.pace.step(ended), max(1, len(self.running))
        for ticket in self.running.values():
            ticket.seconds += (ended - started) / sharing
            ticket.elapsed += passed / sharing
        for each in told:
            self._tell(each)

    def _tell(self, told: Done | Grown) -> None:
        if isinstance(told, Grown):
            ticket = self.running.get(told.ticket)
            if ticket and ticket.grown:
                self._resolve(ticket, partial(ticket.grown, told.text))
            return
        with self.changed:
            ticket = self.running.pop(told.ticket, None)
        if ticket:
            self._complete(ticket, told.completion)

    def _complete(self, ticket: Ticket, completion: Completion) -> None:
        if completion.tokens_out:
            self.faults = 0
            with self.changed:
                self.pace.completed(ticket.elapsed)
        computed = Computed(completion._replace(seconds=ticket.seconds), ticket.joined - ticket.arrived)
        self._resolve(ticket, lambda: ticket.future.done() or ticket.future.set_result(computed))

    def _recover(self, batcher: Batcher, error: Exception) -> bool:
        """End the running requests with the error; return whether the engine is tried again."""
        with self.changed:
            lost, self.running = list(self.running.values()), {}
        for ticket in lost:
            with suppress(Exception):  # an engine that has failed may refuse this, too
                batcher.abort(ticket.name)
            self._refuse(ticket, EngineFault(error.kind if isinstance(error, EngineFailed) else type(error).__name__))
        self.faults += 1
        if self.faults < FAULTS and not isinstance(error, EngineGone):
            return True
        self._fail_for_good(error)
        return False

    def _fail_for_good(self, error: BaseException) -> None:
        with self.changed:
            self.fault, self.is_ready = error, False
            lost = [*self.running.values(), *self.waiting]
            self.running, self.waiting = {}, deque()
        for ticket in lost:
            self._refuse(ticket, Unavailable("has failed"))
        self.on_fatal(error)

    def _refuse(self, ticket: Ticket, error: Exception) -> None:
        self._resolve(ticket, lambda: ticket.future.done() or ticket.future.set_exception(error))

    def _resolve(self, ticket: Ticket, call: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # its event loop is closed
            ticket.loop.call_soon_threadsafe(call)

    def _close(self) -> None:
        """End the engine's process; the traceback of a fault would keep it alive."""
        with self.changed:
            process, self.process = self.process, None
        if process:
            process.close()
