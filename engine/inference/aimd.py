"""The number of requests in flight to a server, found by additive increase and multiplicative decrease (Chiu and Jain, 1989).

A round of answers raises it by one, a reply 429 or 5xx halves it: there is no rate to configure, and clients share a server fairly.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

START = 8.0  # requests in flight at first


class AimdLimiter:
    """Limits requests in flight to `limit`, which adapts between 1 and `maximum`. May be used in several event loops in turn."""

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.limit = min(START, maximum)
        self.in_flight = 0
        self.decreases = 0
        self.changed = asyncio.Condition()

    def bind(self) -> None:
        """Prepare for a new event loop: conditions and waiters belong to one loop."""
        self.in_flight, self.changed = 0, asyncio.Condition()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[int]:
        """Wait until a request may be sent; yield the epoch that `on_overload` takes."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.in_flight < max(1, int(self.limit)))
            self.in_flight += 1
        try:
            yield self.decreases
        finally:
            self.in_flight -= 1
            async with self.changed:
                self.changed.notify_all()

    def on_success(self) -> None:
        """Raise the limit after an answer."""
        self.limit = min(self.limit + 1 / self.limit, self.maximum)

    def on_overload(self, epoch: int) -> None:
        """Halve the limit, once for all requests that were in flight in the same `epoch`."""
        if epoch == self.decreases:
            self.limit = max(1.0, self.limit / 2)
            self.decreases += 1
