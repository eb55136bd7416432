"""A process that a worker started, as vLLM does on a GPU, does not outlive the worker: it would hold the memory."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from engine.distributed import session


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


@pytest.mark.parametrize(("late", "starts"), [(session.ATTEMPTS - 1, True), (session.ATTEMPTS, False)])
def test_a_start_that_is_late_on_a_busy_machine_is_tried_again(monkeypatch, late, starts):
    tried: list[int] = []

    def init(**options):
        tried.append(1)
        if len(tried) <= late:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(session.ray, "init", init)
    monkeypatch.setattr(session.ray, "shutdown", lambda: None)
    with nullcontext() if starts else pytest.raises(Exception, match="timed out during startup"):
        session.start()
    assert len(tried) == session.ATTEMPTS


def test_a_folder_whose_path_is_too_long_for_sockets_is_named(tmp_path):
    environment = {**os.environ, "RAY_TMPDIR": str(tmp_path / ("long" * 25))}
    command = [sys.executable, "-c", "from engine.distributed.session import start; start()"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode and re.search(r"InputError: TMPDIR: .*path is too long.*RAY_TMPDIR=/tmp", done.stderr)


def test_a_task_that_shuffles_reads_a_part_of_the_object_store(cluster: None) -> None:
    """By default Ray Data merges a GiB of blocks, which a store of 300 MiB does not hold beside anything else."""
    from ray.data import DataContext

    stores = [node["object_store_memory"] for node in session.nodes()]
    assert DataContext.get_current().shuffle_input_batch_bytes <= min(stores) / session.STORE_PARTS < 1 << 30
