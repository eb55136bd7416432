"""A process that a worker started, as vLLM does on a GPU, does not outlive the worker: it would hold the memory."""

import os
import signal
import subprocess
import time
from typing import Any

import psutil
import ray


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_child_of_a_killed_worker_ends_with_it(cluster: None) -> None:
    @ray.remote(num_cpus=0.1)
    class Parent:
        def start(self) -> tuple[int, int]:
            self.child = subprocess.Popen(["sleep", "600"])
            return os.getpid(), self.child.pid

    parent: Any = Parent.remote()
    worker, child = ray.get(parent.start.remote())
    assert is_running(child)
    os.kill(worker, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_running(child)
