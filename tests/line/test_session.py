"""What a worker has started, as vLLM starts its engine on a GPU, does not outlive it: it would hold the memory."""

import os
import signal
import subprocess
import time
from typing import Any

import psutil
import ray


def is_at_work(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_what_a_killed_worker_has_started_ends_with_it(cluster: None) -> None:
    @ray.remote(num_cpus=0.1)
    class Parent:
        def start(self) -> tuple[int, int]:
            self.child = subprocess.Popen(["sleep", "600"])
            return os.getpid(), self.child.pid

    parent: Any = Parent.remote()
    worker, child = ray.get(parent.start.remote())
    assert is_at_work(child)
    os.kill(worker, signal.SIGKILL)
    until = time.monotonic() + 60
    while is_at_work(child) and time.monotonic() < until:
        time.sleep(0.1)
    assert not is_at_work(child)
