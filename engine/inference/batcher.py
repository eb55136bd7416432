"""Requests that come one by one, as a server gets them, through one engine.

A `Batcher` is used by one thread. vLLM computes requests together and lets one join while others run (continuous batching: Yu et
al., "Orca", OSDI 2022, section 3); an engine that only answers whole batches gets what has gathered since its last one.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from engine.contract.models import Sampling
from engine.inference.engine import Completion, Request


class Arrived(NamedTuple):
    """A request and the ticket under which its completion comes back."""

    ticket: str
    request: Request
    sampling: Sampling
    grows: bool = False
    """Whether its text is wanted as it grows. An engine that answers whole batches does not give it."""


class Grown(NamedTuple):
    """A request that goes on."""

    ticket: str
    text: str
    """The beginning of its completion's text."""


class Done(NamedTuple):
    """A completed request."""

    ticket: str
    completion: Completion


class Batcher(Protocol):
    """Computes requests that join at any time."""

    at_once: int
    """Requests that may be added before one is done."""

    def add(self, arrived: Arrived) -> Completion | None:
        """Let a request join; return its completion at once if the engine cannot read it."""
        ...

    def step(self) -> Sequence[Done | Grown]:
        """Compute for a while, a decoding step or a whole batch; return what is done, and what has grown if that is wanted."""
        ...

    def abort(self, ticket: str) -> None:
        """Give up a request: nothing comes back for its ticket."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A batcher that reads requests ahead."""

    def prepare(self, arrived: Arrived) -> None:
        """Read a request that `add` gets later: tokens, checks, grammar. Called by another thread, while a step computes.

        What it raises, `add` raises as well: it reads anew.
        """
        ...


class Answers(Protocol):
    """The part of an engine that a server needs."""

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]: ...


@runtime_checkable
class Batches(Protocol):
    """An engine with a batcher of its own."""

    def batcher(self, at_once: int) -> Batcher: ...


def batcher_of(engine: Answers, at_once: int) -> Batcher:
    """Return the batcher of `engine` with at most `at_once` requests at the same time."""
    return engine.batcher(at_once) if isinstance(engine, Batches) else GatheringBatcher(engine, at_once)


class GatheringBatcher:
    """Sends what has gathered as one batch. A request that is given up while its batch is computed is computed all the same."""

    def __init__(self, engine: Answers, at_once: int) -> None:
        self.engine, self.at_once = engine, at_once
        self.waiting: dict[str, Arrived] = {}

    def add(self, arrived: Arrived) -> Completion | None:
        """Keep a request for the next batch."""
        self.waiting[arrived.ticket] = arrived
        return None

    def step(self) -> list[Done]:
        """Answer all that wait with the sampling of the first."""
        if not self.waiting:
            return []
        sampling = next(iter(self.waiting.values())).sampling
        batch = [each for each in self.waiting.values() if each.sampling == sampling]
        for each in batch:
            del self.waiting[each.ticket]
        completions = self.engine.complete([each.request for each in batch], sampling)
        return [Done(each.ticket, completion) for each, completion in zip(batch, completions, strict=True)]

    def abort(self, ticket: str) -> None:
        """Take a request out of the next batch."""
        self.waiting.pop(ticket, None)
