"""Which actor of a pool is a straggler: its calls take a multiple of the time that those of the others take. Pure, without Ray.

Calls differ: one has long prompts, one long answers, one few requests. So a call has four costs, seconds per call, request, token
read and token written, and an actor is slow by a factor only if each of its costs is above that of its peers by this factor: long
prompts cost no more per token, half-empty batches no more per call. Costs are medians of the last WINDOW calls, as one call says
little; those of the peers are medians over the peers, so that another straggler among them changes little.

A replacement loads an engine, so an actor is replaced only once its slowness has cost as much as the load: whatever happens then,
the time lost since it was found slow is at most twice that of the best decision (ski rental; Karlin, Manasse, Rudolph and Sleator:
Competitive snoopy caching, Algorithmica 3, 1988). The cost is what its calls took above its peers' pace, from verdict to verdict
while it is slow; a verdict that it is not slow sets it to 0, so a long healthy past condemns nobody.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from engine.calls import LOADING, ModelCall

WINDOW = 9  # last calls whose medians are compared
FEWEST = 5  # calls below which an actor is neither slow nor a peer

Costs = Sequence[float]
"""Medians of seconds per call, per request, per token read, per token written; 0: not known, as nothing was read or written."""
Rates = Mapping[str, Costs]
"""Kind of call -> costs."""


class Slow(NamedTuple):
    """How an actor is slower than its peers."""

    factor: float
    """The least by which its costs are above those of its peers."""
    seconds: float
    """Of one of its calls, the median."""
    peers_seconds: float
    """Of one call of its peers, the median."""
    peers: int


class CallWindow:
    """The last calls of this process. One thread adds; another may read."""

    def __init__(self) -> None:
        self.count = 0
        self.loading = 0.0
        self.seconds = 0.0
        """Of all its calls."""
        self._judged = 0.0  # the seconds at the last verdict
        self._lost = 0.0  # of the seconds, through slowness without a break
        self._last: dict[str, deque[Costs]] = {}

    def add(self, call: ModelCall) -> None:
        """Count `call`; a call that answered nothing says nothing of the speed."""
        if call.kind == LOADING:
            self.loading += call.seconds
        elif call.requests:
            self.seconds += call.seconds
            self._last.setdefault(call.kind, deque(maxlen=WINDOW)).append(costs(call))
            self.count += 1

    def rates(self) -> dict[str, Costs]:
        """Return the costs of each kind with at least FEWEST calls."""
        last = {kind: list(calls) for kind, calls in list(self._last.items())}
        return {kind: _medians(calls) for kind, calls in last.items() if len(calls) >= FEWEST}

    def slowness(self, peers: Sequence[Rates], factor: float) -> Slow | None:
        """Return how this process is slower than `peers` by more than `factor`, if it is, and if that has cost more than a load.

        Each call is a verdict on the calls since the last one; with fewer than FEWEST calls there is none.
        """
        own, seconds = self.rates(), self.seconds
        if not own:
            return None
        new, self._judged = seconds - self._judged, seconds
        slow = slowness(own, peers)
        if slow is None or slow.factor <= factor:
            self._lost = 0.0
            return None
        self._lost += new * (1 - 1 / slow.factor)
        return slow if self._lost >= self.loading else None


def costs(call: ModelCall) -> Costs:
    """Return seconds per call, request, token read and token written."""
    return [call.seconds, *(call.seconds / count if count else 0.0 for count in (call.requests, call.tokens_in, call.tokens_out))]


def slowness(own: Rates, peers: Sequence[Rates]) -> Slow | None:
    """Return the kind of call by which an actor is slowest least; None if it has no kind in common with a peer.

    A factor of 1 or below means that it is as fast as its peers.
    """
    found = []
    for kind, mine in own.items():
        others = [rates[kind] for rates in peers if kind in rates]
        if not others:
            continue
        theirs = _medians(others)
        factors = [cost / other for cost, other in zip(mine, theirs, strict=True) if cost and other]
        if factors:
            found.append(Slow(min(factors), mine[0], theirs[0], len(others)))
    return min(found, default=None)


def _medians(rows: Sequence[Costs]) -> list[float]:
    return [median(known) if (known := [value for value in column if value]) else 0.0 for column in zip(*rows, strict=True)]
