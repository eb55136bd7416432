"""One thread that owns an engine, and a bounded queue in front of it: requests join the running batch as places become free."""

import asyncio
import logging
import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.contract.models import Sampling
from engine.inference.batcher import Answers, Arrived, Batcher, Done, batcher_of
from engine.inference.engine import Completion, Request
from engine.inference.engine_process import EngineGone, EngineProcess
from engine.serving.turns import Turns

log = logging.getLogger(__name__)

RECENT = 0.1  # weight of the newest request in the running means
SAFE = 0.8  # share of its deadline that a request may take, as expected when it arrives
LONGEST = 60  # seconds after which a refused caller is told to try again, at most
FAULTS = 3  # failures of the engine in a row, without a completed request between them, after which it is given up


class Busy(Exception):
    """The queue is full, or the request would wait beyond its deadline."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; retry after {retry_after} s")
        self.retry_after = retry_after


class Expired(Exception):
    """A request was not completed by its deadline."""


class Unavailable(Exception):
    """The engine is loading, has failed, or stops."""


class EngineFault(Exception):
    """The engine failed while it computed a request."""


class Computed(NamedTuple):
    """A completion and the time before it was begun."""

    completion: Completion
    waited: float
    """Seconds in the queue."""


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
    turns: Turns | None = None
    """Shared by the engines of a process that may not compute at the same time."""


@dataclass(eq=False)
class _Ticket:
    request: Request
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Computed]"
    deadline: float
    arrived: float
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    joined: float = 0.0
    seconds: float = 0.0  # of the engine, shared with the others
    given_up: bool = False


class Worker:
    """Answers requests with one engine. `ask` is called in an event loop; the engine is touched by the worker's thread alone."""

    def __init__(self, load: Load, *, on_fatal: Callable[[BaseException], None] = lambda error: None) -> None:
        """`on_fatal` is called in the thread once the engine cannot be loaded, or has failed for good."""
        self.load, self.on_fatal = load, on_fatal
        self.turns = load.turns or Turns()
        self.changed = threading.Condition()
        self.waiting: deque[_Ticket] = deque()
        self.running: dict[str, _Ticket] = {}
        self.given_up: list[_Ticket] = []
        self.is_ready = self.is_stopping = False
        self.fault: BaseException | None = None
        self.seconds = 0.0  # of the engine for one request, running mean: the inverse of what it completes in a second
        self.faults = 0
        self.thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Load the engine and begin to answer."""
        self.thread.start()

    async def ask(self, request: Request, *, deadline: float) -> Computed:
        """Return the completion of `request`. A caller that is cancelled gives its request up, also in the engine.

        Raises:
            Busy: the queue is full, or the request would wait until its `deadline` (of `time.monotonic`).
            Expired: the deadline has passed.
            Unavailable: the engine is loading, has failed or stops.
            EngineFault: the engine failed.
        """
        loop = asyncio.get_running_loop()
        ticket = _Ticket(request, loop, loop.create_future(), deadline, time.monotonic())
        with self.changed:
            self._admit(ticket)
            self.waiting.append(ticket)
            self.changed.notify()
        try:
            async with asyncio.timeout(deadline - ticket.arrived):
                return await ticket.future
        except TimeoutError:
            raise Expired from None
        finally:
            if not ticket.future.done() or ticket.future.cancelled():
                with self.changed:
                    ticket.given_up = True
                    self.given_up.append(ticket)
                    with suppress(ValueError):  # it runs
                        self.waiting.remove(ticket)
                    self.changed.notify()

    def stop(self, seconds: float) -> None:
        """Take no further request, and wait at most `seconds` for those that were taken."""
        with self.changed:
            self.is_stopping, self.is_ready = True, False
            self.changed.notify()
        if self.thread.ident is not None:
            self.thread.join(seconds)

    def _admit(self, ticket: _Ticket) -> None:
        if not self.is_ready:
            raise Unavailable("stops" if self.is_stopping else "has failed" if self.fault else "is loading")
        ahead = len(self.waiting) + len(self.running)
        wait = (ahead + 1) * self.seconds  # they share the engine
        late = ahead > 0 and wait > SAFE * (ticket.deadline - ticket.arrived)
        if ahead >= self.load.queue + self.load.at_once or late:
            raise Busy(min(LONGEST, max(1, math.ceil(ahead * self.seconds))))

    def _run(self) -> None:
        engine: Answers | None = None
        try:
            with self.turns:
                engine = self.load.engine()
                for request in self.load.warm_up:
                    engine.complete([request], self.load.sampling)
                batcher = batcher_of(engine, self.load.at_once)
        except BaseException as error:
            self._fail_for_good(error)
            _close(engine)
            return
        with self.changed:
            self.is_ready = not self.is_stopping
        while self._turn(batcher):
            pass
        _close(engine)

    def _turn(self, batcher: Batcher) -> bool:
        """Compute one step; return False once the worker has stopped."""
        with self.changed:
            while not (self.waiting or self.running or self.given_up or self.is_stopping):
                self.changed.wait()
            if self.is_stopping and not self.waiting and not self.running:
                return False
            given_up, self.given_up = self.given_up, []
            joining = self._joining()
        try:
            with self.turns:
                for ticket in given_up:
                    batcher.abort(ticket.name)
                    self._measure(max(self.seconds, ticket.seconds))  # it would have taken more
                    with self.changed:
                        self.running.pop(ticket.name, None)
                self._step(batcher, joining)
        except Exception as error:
            log.exception("the engine failed with %d requests", len(self.running))
            return self._recover(batcher, error)
        return True

    def _joining(self) -> list[_Ticket]:
        """Take as many requests from the queue as there are places; leave out those that nobody waits for any more."""
        joining: list[_Ticket] = []
        while self.waiting and len(self.running) < self.load.at_once:
            ticket = self.waiting.popleft()
            if not ticket.given_up:
                self.running[ticket.name] = ticket
                joining.append(ticket)
        return joining

    def _step(self, batcher: Batcher, joining: Sequence[_Ticket]) -> None:
        started = time.monotonic()
        done: list[Done] = []
        for ticket in joining:
            ticket.joined = started
            completion = batcher.add(Arrived(ticket.name, ticket.request, self.load.sampling))
            done += [Done(ticket.name, completion)] if completion else []
        done += batcher.step()
        ended = time.monotonic()
        share = (ended - started) / max(1, len(self.running))
        for ticket in self.running.values():
            ticket.seconds += share
        for name, completion in done:
            with self.changed:
                ticket = self.running.pop(name, None)
            if ticket:
                self._complete(ticket, completion)

    def _measure(self, seconds: float) -> None:
        self.seconds += (seconds - self.seconds) * (RECENT if self.seconds else 1)

    def _complete(self, ticket: _Ticket, completion: Completion) -> None:
        if completion.tokens_out:
            self.faults = 0
            self._measure(ticket.seconds)
        computed = Computed(completion._replace(seconds=ticket.seconds), ticket.joined - ticket.arrived)
        self._resolve(ticket, lambda: ticket.future.done() or ticket.future.set_result(computed))

    def _recover(self, batcher: Batcher, error: Exception) -> bool:
        """End the running requests with the error; return whether the engine is tried again."""
        with self.changed:
            lost, self.running = list(self.running.values()), {}
        for ticket in lost:
            with suppress(Exception), self.turns:  # an engine that has failed may refuse this, too
                batcher.abort(ticket.name)
            self._refuse(ticket, EngineFault(f"{type(error).__name__}"))
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

    def _refuse(self, ticket: _Ticket, error: Exception) -> None:
        self._resolve(ticket, lambda: ticket.future.done() or ticket.future.set_exception(error))

    def _resolve(self, ticket: _Ticket, call: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # its event loop is closed
            ticket.loop.call_soon_threadsafe(call)


def _close(engine: Answers | None) -> None:
    """End the process of an engine that has one of its own; the traceback of a fault would keep it alive."""
    if isinstance(engine, EngineProcess):
        engine.close()
