"""The interface through which a flow starts pure functions, without Ray. `task_pool.TaskPool` runs them as Ray tasks."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class Executor(Protocol):
    """Runs pure functions."""

    def start(self, op: Callable[..., Any], *args: Any, returns: int = 1) -> list[Any]:
        """Return `returns` references to the results of `op(*args)`.

        A reference among `args` is replaced by its value; one inside of a list or tuple is not. With `returns` above 1, `op`
        returns a sequence of that length.
        """
        ...

    def fetch(self, refs: Any) -> Any:
        """Return the value of a reference, or the values of a list of references.

        Raises:
            Exception: the exception of the function, as it was raised.
        """
        ...


def returned(pieces: Sequence[Any]) -> Any:
    """Return what a function that is started with `returns=len(pieces)` returns: one value by itself."""
    return pieces if len(pieces) > 1 else pieces[0]
