"""Safe points of a process: moments between two paid batches, at which it may end, or wait, without losing what was paid for."""

from collections.abc import Callable

_checks: list[Callable[[], None]] = []


def at_safe_points(check: Callable[[], None]) -> None:
    """Let `check`, which may end the process, be called at each safe point."""
    if check not in _checks:
        _checks.append(check)


def safe_point() -> None:
    """Call what was registered: nothing is half done and nothing that is paid for is unrecorded."""
    for check in _checks:
        check()
