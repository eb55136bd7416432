"""Clusters with a dashboard, of which a machine may run several: free ports, what jobs need of the environment, waiting for it."""

import os
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST = 180.0  # seconds that something may take on a busy machine


def environment() -> dict[str, str]:
    """Return the variables with which nodes find `rayleigh`, this Python and this project."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }


def free_port() -> int:
    """Return a port of the loopback on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(dashboard: int, agent: int) -> str:
    """Wait until the dashboard and the agent of the head, which starts jobs, answer at these ports; return the dashboard's URL."""
    until(
        lambda: (
            _answers(f"http://127.0.0.1:{dashboard}/api/version") and _answers(f"http://127.0.0.1:{agent}/api/local_raylet_healthz")
        )
    )
    return f"http://127.0.0.1:{dashboard}"


def until(is_so: Callable[[], bool]) -> None:
    """Wait until `is_so()`."""
    end = time.monotonic() + LONGEST
    while not is_so():
        assert time.monotonic() < end, "it did not become so"
        time.sleep(0.5)


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=10) as reply:
        return reply.status == 200
    return False
