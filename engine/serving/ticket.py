"""A request in the queue of a worker."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.inference.engine import Completion, Request


class Computed(NamedTuple):
    """A completion and the time before it was begun."""

    completion: Completion
    waited: float
    """Seconds in the queue."""


@dataclass(eq=False)
class Ticket:
    """A request, what became of it, and who waits for that."""

    request: Request
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Computed]"
    deadline: float
    arrived: float
    grown: Callable[[str], None] | None = None
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    joined: float = 0.0
    seconds: float = 0.0  # of the engine, shared with the others
    elapsed: float = 0.0  # of the clock since the others began, shared alike
    given_up: bool = False
    measured: bool = False  # its time is in the pace
