"""How much memory a driver holds for each reference to an object: `python -m jobs.bench.references ADDRESS TASKS RETURNS`."""

import gc
import subprocess
import sys
from typing import Any

import psutil

from jobs.bench.watch import ROOT

TASKS, RETURNS = 100, 1_000


def reference_bytes(address: str) -> float:
    """Return bytes of memory of a driver on the cluster at `address` for a reference, in a process of its own.

    Raises:
        CalledProcessError: the process failed.
    """
    words = [sys.executable, "-m", "jobs.bench.references", address, str(TASKS), str(RETURNS)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def _measure(address: str, tasks: int, returns: int) -> float:
    """Return bytes a reference, of `tasks` tasks that return `returns` objects each, as the stages of deduplication do."""
    import ray

    ray.init(address=address, log_to_driver=False)
    task: Any = ray.remote(num_cpus=0.5, num_returns=returns)(_nothing)
    kept: list[list[Any]] = [task.remote(returns)]
    ray.wait(kept[0], num_returns=returns)  # what is loaded once is loaded
    gc.collect()
    before = psutil.Process().memory_info().rss
    for _ in range(tasks):
        kept.append(task.remote(returns))
        ray.wait(kept[-1], num_returns=returns)
    gc.collect()
    held = psutil.Process().memory_info().rss - before
    ray.shutdown()
    return held / (tasks * returns)


def _nothing(returns: int) -> list[None]:
    return [None] * returns


if __name__ == "__main__":
    print(_measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
