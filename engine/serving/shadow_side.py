"""A model that answers in shadow: a challenger, or a teacher. It has a deadline of its own, and is restarted after a failure.

An engine runs in a process of its own that gets the CPU only when nothing else wants it, rests most of the time while users
wait, and is killed when it hangs.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from engine.evaluation.evaluator import greedy
from engine.inference.batcher import Answers
from engine.inference.engine_process import EngineProcess
from engine.serving.fallback import EndpointHandler, Fallback, Final, LocalHandler
from engine.serving.refusals import Busy, EngineFault, Unavailable
from engine.serving.router import Answer, Asked, Handler
from engine.serving.service import nothing, warm_up
from engine.serving.worker import Load, Worker

log = logging.getLogger(__name__)

FIRST_RESTART, LONGEST_RESTART = 10.0, 600.0  # seconds after a failure for good


class Missed(Exception):
    """The model could not be asked: its queue is full, or it is loading. That says nothing of its answers."""


class Failed(Exception):
    """The model was asked, and gave no answer."""


class Started(NamedTuple):
    """A model that can be asked."""

    handler: Handler
    worker: Worker | None = None
    """Its engine; None behind an endpoint."""
    close: Callable[[], Awaitable[None]] = nothing


class Side:
    """One model in shadow."""

    def __init__(self, name: str, fingerprint: str, start: Callable[[], Started], seconds: float) -> None:
        """`start` makes the model and begins to load its engine. `seconds`: for one answer."""
        self.name, self.fingerprint, self.make, self.seconds = name, fingerprint, start, seconds
        self.restarts, self.delay, self.again_at = 0, FIRST_RESTART, 0.0
        self.started: Started | None = None

    def start(self) -> None:
        """Begin to load."""
        self.started = self.make()

    @property
    def is_ready(self) -> bool:
        """Whether it can be asked."""
        return self.started is not None and (self.started.worker is None or self.started.worker.is_ready)

    async def ask(self, asked: Asked) -> Answer:
        """Return its complete answer.

        Raises:
            Missed: it could not be asked.
            Failed: it gave no answer, or none in time.
        """
        if not self.is_ready or self.started is None:
            raise Missed
        try:
            async with asyncio.timeout(self.seconds):
                answer = await self.started.handler(asked, time.monotonic() + self.seconds)
        except (Busy, Unavailable):
            raise Missed from None
        except TimeoutError:
            raise Failed(f"no answer within {self.seconds:g} s") from None
        except EngineFault:
            raise Failed("its engine failed") from None
        except Exception as error:  # whatever a server of somebody else causes
            raise Failed(type(error).__name__) from None
        if answer.finish_reason != "stop":
            raise Failed(f"it ended as {answer.finish_reason}")
        return answer

    def give_way(self, is_busy: bool) -> None:
        """Say whether users' requests are computed now."""
        if self.started and self.started.worker:
            self.started.worker.give_way(is_busy)

    def tend(self) -> None:
        """Start an engine again that has failed for good, after a pause that doubles each time."""
        fault = self.started and self.started.worker and self.started.worker.fault
        if fault:
            log.warning("%s in shadow has failed, it is started again in %g s: %s", self.name, self.delay, fault)
            self.started, self.again_at = None, time.monotonic() + self.delay
            self.delay = min(2 * self.delay, LONGEST_RESTART)
        elif self.started is None and time.monotonic() >= self.again_at:
            self.restarts += 1
            self.start()

    async def stop(self) -> None:
        """End it. Requests that it computes are given up."""
        if self.started is None:
            return
        if self.started.worker:
            await asyncio.to_thread(self.started.worker.stop, 1.0)
        await self.started.close()


def start_endpoint(model: Fallback, final: Final) -> Started:
    """Return a model behind an endpoint, ready to be asked.

    Raises:
        ModelError: the environment variable with its key is not set.
    """
    handler = EndpointHandler(model, final)
    return Started(handler, close=handler.close)


def start_engine(
    model: Fallback, final: Final, load: Callable[[], Answers], patience: float, *, background: bool = True
) -> Started:
    """Return a model whose engine begins to load in a process of its own; `load` is picklable and called there.

    `patience`: seconds without an answer, while requests run, after which the process is killed. `background`: it computes only
    when nothing else wants the CPU.
    """
    target, at_once = model.target, model.pool.max_num_seqs
    engine = partial(EngineProcess, load, at_once, background=background, patience=patience)
    worker = Worker(Load(engine, greedy(target.max_tokens), at_once, at_once, warm_up(target)))
    worker.start()
    return Started(LocalHandler(model, final, worker), worker)
