"""The interface through which a flow starts pure functions, and the executor that calls them in this process, without Ray."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


class Executor(Protocol):
    """Runs pure functions. `task_pool.TaskPool` runs them as Ray tasks, `InProcess` one after another in this process."""

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


@dataclass(frozen=True)
class Done:
    """A reference to a result of `InProcess`."""

    value: Any


class InProcess:
    """Calls each function at once, in this process."""

    def start(self, op: Callable[..., Any], *args: Any, returns: int = 1) -> list[Done]:
        """See `Executor.start`."""
        result = op(*(arg.value if isinstance(arg, Done) else arg for arg in args))
        values = list(result) if returns > 1 else [result]
        assert len(values) == returns, f"{op} returned {len(values)} values, expected {returns}"
        return [Done(value) for value in values]

    def fetch(self, refs: Any) -> Any:
        """See `Executor.fetch`."""
        return [ref.value for ref in refs] if isinstance(refs, list) else refs.value
