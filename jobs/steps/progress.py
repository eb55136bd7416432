"""One line of progress now and then: rows done, tokens per second, time left."""

import time
from collections.abc import Callable


class Meter:
    """Counts rows and tokens and tells how it goes, at most once in `every` seconds."""

    def __init__(self, name: str, *, total: int, progress: Callable[[str], None], every: float = 5.0) -> None:
        self.name, self.total, self.progress, self.every = name, total, progress, every
        self.rows = self.tokens = 0
        self.started = self.told = time.monotonic()

    def __call__(self, rows: int, tokens: int = 0) -> None:
        """Add what has just been finished."""
        now = time.monotonic()
        self.rows += rows
        self.tokens += tokens
        if now - self.told >= self.every or self.rows >= self.total:
            self.told = now
            self.progress(self.line(now))

    def line(self, now: float) -> str:
        """Return the state at `now` in words."""
        spent = max(now - self.started, 1e-9)
        left = spent / max(self.rows, 1) * (self.total - self.rows)
        speed = f", {self.tokens / spent:.0f} tokens/s" if self.tokens else ""
        ending = f", about {left:.0f} s left" if self.rows < self.total else ""
        return f"{self.name}: {self.rows} of {self.total} rows{speed}{ending}"
