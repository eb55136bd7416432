"""Work in a thread of its own beside the training of a round, and the wait for its end."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.5


def begin(name: str, work: Callable[[], T]) -> Future[T]:
    """Start `work` in a daemon thread: the end of this process does not wait for it, only `has_ended` does."""
    found: Future[T] = Future()

    def run() -> None:
        try:
            found.set_result(work())
        except BaseException as error:  # whoever asks for the result gets it
            found.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return found


def has_ended(begun: Future[T], running: Callable[[], bool]) -> bool:
    """Wait for the end of `begun`; return False once `running` is false first: a call into a Ray that was stopped may never end."""
    while wait([begun], timeout=POLL_SECONDS).not_done:  # a wait without end can miss a signal that comes as it begins
        if not running():
            return begun.done()
    return True


def failure(begun: Future[T] | None, running: Callable[[], bool]) -> str:
    """Wait for the end of `begun`, if there is one, since it holds pools that others need; return its error, "" if it has none."""
    if begun is None or not has_ended(begun, running):
        return ""
    error = begun.exception()
    return f"{type(error).__name__}: {error}" if error else ""
