"""What a short command leaves out: packages that a library loads if they are there, and that the command does not need; garbage."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import Any


def leave_out(package: str, load: Callable[[], object]) -> None:
    """Let `load` do without a package that it would import if it were there, unless it is imported already."""
    if package in sys.modules:
        return
    absent = _Absent(package)
    sys.meta_path.insert(0, absent)
    try:
        load()
    finally:
        sys.meta_path.remove(absent)


def leave_out_pandas() -> None:
    """Let pyarrow do without pandas: its first array would load it, a fifth of a short command.

    What converts to pandas still imports it. Only times with nanoseconds are no Python values then: cast them.
    """
    import pyarrow as pa

    leave_out("pandas", lambda: pa.array([1]))  # pyarrow looks for pandas once in Python, and once in C++


@contextmanager
def uncollected() -> Iterator[None]:
    """Import modules without looking for garbage among them, then or later: they stay, and it was a sixth of a short command."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class _Absent(MetaPathFinder):
    """Finds no package of this name."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == self._package:
            raise ModuleNotFoundError(fullname, name=fullname)
