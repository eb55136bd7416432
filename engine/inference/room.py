"""Memory of engines on CPUs: what is free on this machine, and how many engines of each model there is room for."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from engine.contract.profile import Pool
from engine.inference.weights import RemoteModel, Weights, described, is_heavy

GIB = 2**30
ENGINE_GIB = 1.5  # a process with vLLM, before its cache, and before weights of more than 135M parameters
CGROUP = Path("/sys/fs/cgroup")


class Engines(NamedTuple):
    """Engines of one model."""

    pool: Pool
    weights_gib: float

    @property
    def each_gib(self) -> float:
        """Memory of one of them."""
        return ENGINE_GIB + self.weights_gib + self.pool.kv_cache_gib


def free_gib() -> float:
    """Return the GiB that a process may still allocate on this machine, or in this container."""
    return min(psutil.virtual_memory().available, _cgroup_free()) / GIB


def weights_gib(weights: Weights | None) -> float:
    """Return the GiB of the files with weights; 0 of None.

    Raises:
        ModelError, StorageError: see `described`.
    """
    if isinstance(weights, RemoteModel):
        return sum(file.bytes for file in weights.files if is_heavy(file.path)) / GIB
    folder = described(weights)
    return sum(path.stat().st_size for path in folder.iterdir() if is_heavy(path.name)) / GIB if folder else 0.0


def that_fit(wanted: Sequence[Engines], room_gib: float) -> list[int]:
    """Return how many engines of each of `wanted` to start: the fewest of its pool, and more in turn while `room_gib` is enough."""
    counts = [engines.pool.fewest for engines in wanted]
    room_gib -= sum(count * engines.each_gib for count, engines in zip(counts, wanted, strict=True))
    grows = True
    while grows:
        grows = False
        for at, engines in enumerate(wanted):
            if counts[at] < engines.pool.actors and engines.each_gib <= room_gib:
                counts[at], room_gib, grows = counts[at] + 1, room_gib - engines.each_gib, True
    return counts


def _cgroup_free() -> float:
    """Return the bytes that a container may still allocate; infinite without a limit."""
    try:
        limit, used = (Path(CGROUP, name).read_text().strip() for name in ("memory.max", "memory.current"))
        return math.inf if limit == "max" else int(limit) - int(used)
    except (OSError, ValueError):
        return math.inf
