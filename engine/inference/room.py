"""Memory of engines on the CPUs of one machine: what is free, and what one takes."""

import math
from pathlib import Path

import psutil

from engine.contract.profile import Pool
from engine.inference.weights import RemoteModel, Weights, described, is_heavy

GIB = 2**30
ENGINE_GIB = 1.5  # a process with vLLM and a model of 135M parameters, before its cache
CGROUP = Path("/sys/fs/cgroup")


def free_gib() -> float:
    """Return the GiB that a process may still allocate on this machine, or in this container."""
    return min(psutil.virtual_memory().available, _cgroup_free()) / GIB


def engine_gib(pool: Pool, weights: Weights | None) -> float:
    """Return the GiB of one engine of `pool`: itself, its cache and its weights; 0 where it is on GPUs.

    Raises:
        ModelError, StorageError: see `described`.
    """
    return 0.0 if pool.gpus else ENGINE_GIB + pool.kv_cache_gib + _weights_gib(weights)


def _weights_gib(weights: Weights | None) -> float:
    if isinstance(weights, RemoteModel):
        return sum(file.bytes for file in weights.files if is_heavy(file.path)) / GIB
    folder = described(weights)
    return sum(path.stat().st_size for path in folder.iterdir() if is_heavy(path.name)) / GIB if folder else 0.0


def _cgroup_free() -> float:
    """Return the bytes that a container may still allocate: files in its cache are given up first. Infinite without a limit."""
    try:
        limit, used, stat = (Path(CGROUP, name).read_text() for name in ("memory.max", "memory.current", "memory.stat"))
        cached = dict(line.split() for line in stat.splitlines()).get("inactive_file", "0")
        return math.inf if limit.strip() == "max" else int(limit) - int(used) + int(cached)
    except (OSError, ValueError):
        return math.inf
