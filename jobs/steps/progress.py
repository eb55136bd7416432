"""A progress line every few seconds: rows done, tokens per second, time left."""

import time
from collections.abc import Callable


class ProgressMeter:
    """Counts rows and tokens and reports them at most once in `every` seconds, and when all rows are done."""

    def __init__(self, name: str, *, total: int, progress: Callable[[str], None], every: float = 5.0) -> None:
        self.name, self.total, self.progress, self.every = name, total, progress, every
        self.rows = self.tokens = 0
        self.started = self.reported = time.monotonic()

    def __call__(self, rows: int, tokens: int = 0) -> None:
        """Add newly finished rows and their tokens."""
        now = time.monotonic()
        self.rows += rows
        self.tokens += tokens
        if now - self.reported >= self.every or self.rows >= self.total:
            self.reported = now
            self.progress(self.line(now))

    def line(self, now: float) -> str:
        """Return the progress line at the time `now` of the monotonic clock."""
        elapsed = max(now - self.started, 1e-9)
        left = elapsed / max(self.rows, 1) * (self.total - self.rows)
        speed = f", {self.tokens / elapsed:.0f} tokens/s" if self.tokens else ""
        remaining = f", about {left:.0f} s left" if self.rows < self.total else ""
        return f"{self.name}: {self.rows} of {self.total} rows{speed}{remaining}"
