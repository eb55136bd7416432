"""Plain Ray tasks, at most as many at once as a pool of the profile has slots."""

from collections.abc import Callable
from functools import cache
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import RayTaskError

from engine.contract.profile import Pool
from engine.distributed.pool_options import pool_options


class TaskPool:
    """Starts pure functions as tasks on `pool`; Ray repeats a task whose process died."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._running: list[ObjectRef] = []

    def start(self, op: Callable[..., Any], *arguments: Any, returns: int = 1) -> list[ObjectRef]:
        """Start `op(*arguments)` as soon as a slot is free; return its `returns` references.

        References among `arguments` must be those of tasks that were started before: a task that waits for them keeps its slot.
        """
        if len(self._running) >= self.pool.actors:
            _, self._running = ray.wait(self._running, num_returns=1, fetch_local=False)
        refs = _remote(op).options(**pool_options(self.pool), num_returns=returns).remote(*arguments)
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
    return ray.remote(max_calls=0)(op)  # also a process on a GPU is kept, with the model that it has loaded
