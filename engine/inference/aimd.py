"""How many requests a server gets at once: one more for each round of answers, half as many when it says that it has too many.

Additive increase, multiplicative decrease (Chiu and Jain, 1989): no setting to guess, and many clients share a server fairly.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

START = 8.0


class AimdLimiter:
    """At most `size` requests in flight, never more than `most`. It outlives event loops; its waiters do not."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = min(START, most)
        self.in_flight = 0
        self.shrunk = 0  # times; those in flight before it tell nothing new
        self.changed = asyncio.Condition()

    def begin(self) -> None:
        """Start in a new event loop."""
        self.in_flight, self.changed = 0, asyncio.Condition()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[int]:
        """Wait for a place; yield what `overloaded` wants to hear."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.in_flight < max(1, int(self.size)))
            self.in_flight += 1
        try:
            yield self.shrunk
        finally:
            self.in_flight -= 1
            async with self.changed:
                self.changed.notify_all()

    def answered(self) -> None:
        """Note that a request was answered."""
        self.size = min(self.size + 1 / self.size, self.most)

    def overloaded(self, since: int) -> None:
        """Note that a request which got its place at `since` was turned away."""
        if since == self.shrunk:
            self.size = max(1.0, self.size / 2)
            self.shrunk += 1
