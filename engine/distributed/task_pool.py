"""Plain tasks of a pool: no more of them at once than it has places, whatever else the cluster could run."""

from collections.abc import Callable
from functools import cache
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import RayTaskError

from engine.contract.profile import Pool


class TaskPool:
    """Starts pure functions as tasks of `pool`; Ray runs one again whose process died."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._running: list[ObjectRef] = []

    def start(self, op: Callable[..., Any], *given: Any, returns: int = 1) -> list[ObjectRef]:
        """Return the `returns` references of `op(*given)`, as soon as there is a place for it.

        References among `given` must be those of tasks that were started before: a task that waits holds its place.
        """
        if len(self._running) >= self.pool.actors:
            _, self._running = ray.wait(self._running, num_returns=1, fetch_local=False)
        options = {"num_cpus": self.pool.cpus, "num_gpus": self.pool.gpus, "num_returns": returns}
        refs = _remote(op).options(**options).remote(*given)
        refs = refs if returns > 1 else [refs]
        self._running.append(refs[0])
        return refs

    def fetch(self, refs: Any) -> Any:
        """Return the value of a reference, or the values of a list of references.

        Raises:
            Exception: the exception of the task, as it was raised.
        """
        try:
            return ray.get(refs)
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None


@cache
def _remote(op: Callable[..., Any]) -> Any:
    return ray.remote(max_calls=0)(op)  # a process on a GPU, too, goes on with what it has loaded
