"""SIGTERM ends a command, whatever the thread that it interrupts holds."""

import io
import os
import signal
import threading

import pytest

from jobs.terminal import session
from jobs.terminal.console import Console


def test_the_end_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(session, "END_SECONDS", 0.05)
    lock = threading.Lock()
    with session.sigterm_as_interrupt(lock.acquire), lock, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 10)  # the handler runs here at the latest


def test_the_batches_are_finished_though_a_line_is_being_printed():
    console = Console(io.StringIO())
    with console._lock:
        asked = []
        session._finish_batches(console, lambda: asked.append("finish") or 0)
    assert asked == ["finish"]
