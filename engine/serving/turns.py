"""Lets the threads of several engines in at one time each: what vLLM keeps of a forward pass is global to its process."""

import threading
from types import TracebackType


class Turns:
    """A lock that threads get in the order in which they came; a plain one may starve a thread while another steps its engine."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.last = self.now = 0

    def __enter__(self) -> None:
        """Wait for this thread's turn."""
        with self.changed:
            mine, self.last = self.last, self.last + 1
            self.changed.wait_for(lambda: self.now == mine)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let the next thread in."""
        with self.changed:
            self.now += 1
            self.changed.notify_all()
