"""Whether work is done in threads of this process, and what runs functions: these threads, or tasks of Ray."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import psutil
import pyarrow as pa

from engine.contract.profile import Pool, Profile
from engine.distributed.executor import Executor
from engine.distributed.thread_pool import Ref, ThreadPool
from engine.errors import InputError

SHARE = 0.5  # of the available memory
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # glibc, malloc.h

_THREADS: ContextVar[ThreadPool | None] = ContextVar("threads", default=None)


@contextmanager
def flows(is_here: bool, pool: Pool) -> Iterator[None]:
    """Let the flows that are called run in as many threads as `pool` has slots, if `is_here`; else on Ray."""
    if not is_here:
        yield
        return
    with ThreadPool(pool.actors) as found:
        token = _THREADS.set(found)
        try:
            yield
        finally:
            _THREADS.reset(token)


def threads() -> ThreadPool | None:
    """Return the threads in which flows run here; None: they run on Ray."""
    return _THREADS.get()


def executor(pool: Pool) -> Executor:
    """Return what runs functions here, on Ray as tasks of `pool`."""
    if found := threads():
        return found
    from engine.distributed.task_pool import TaskPool

    return TaskPool(pool)


def get(refs: Any) -> Any:
    """Return the value of a reference, or of a list of references, to the result of a function."""
    first = next(iter(refs), None) if isinstance(refs, list) else refs
    if first is None or isinstance(first, Ref):
        return [ref.result() for ref in refs] if isinstance(refs, list) else refs.result()
    import ray

    return ray.get(refs)


def put(value: Any) -> Any:
    """Return a reference to `value`."""
    if threads():
        return Ref.of(value)
    import ray

    return ray.put(value)


def is_in_process(profile: Profile, memory: float, *, gpus: bool = False, small: bool = True) -> bool:
    """Return whether work that holds about `memory` bytes is done in this process; work on GPUs never is.

    Work that is not `small` is quicker in several processes, as its functions hold Python's lock: it is done here only where the
    profile wants no cluster.

    Raises:
        InputError: the profile wants no cluster, and the work is too large for one process.
    """
    ray, gib = profile.ray, memory / 2**30
    if ray.address not in ("local", "none"):
        return False
    most = psutil.virtual_memory().available / 2**30 * SHARE if ray.in_process_gib is None else ray.in_process_gib
    fits = gib <= most and not gpus
    if ray.address == "local":
        return fits and small
    if not fits:
        found = "an embedder on GPUs" if gpus else f"work that holds about {gib:.1f} GiB, expected at most {most:.1f} GiB"
        raise InputError(
            f"profile {profile.name}: ray.address is `none`, found {found}. "
            "Raise ray.in_process_gib, or let ray.address be `local`: Ray then moves to disk what does not fit."
        )
    return fits


def keep_memory() -> None:
    """Let this process keep the memory of a block for the next one: page faults were a sixth of all work otherwise."""
    pa.set_memory_pool(pa.system_memory_pool())
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        for parameter, size in ((M_MMAP_THRESHOLD, 32 << 20), (M_TOP_PAD, 64 << 20), (M_TRIM_THRESHOLD, 2**31 - 1)):
            libc.mallopt(parameter, size)
