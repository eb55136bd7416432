"""Workers of a local Ray that are forks of a process which has the imports done, in place of processes that do them each.

A laptop starts some twenty workers for a run of minutes: importing Ray costs each 0.6 s of a core, Ray Data two, vLLM ten. A fork
takes 50 ms. It is for clusters that a command starts on its own machine, without GPUs; elsewhere Ray starts its workers itself.
"""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ray._private import ray_constants

from engine.contract.profile import Profile
from engine.distributed import fork_server, fork_worker

MODULES = (
    "numpy", "pyarrow.compute", "pyarrow.dataset", "pyarrow.parquet", "pandas", "engine.contract.contract", "engine.storage.shards",
    fork_server.FRAMEWORK, "ray.data", "engine.distributed.stream",
)  # fmt: skip
GRACE = 5.0  # seconds that the server has to end by itself


def can_fork(profile: Profile) -> bool:
    """Return whether workers are forks: the profile asks for it, on Linux, for a cluster of the command's own without GPUs."""
    pools = [profile.teacher, profile.judge, profile.embedder, profile.cpu, profile.trainer, profile.evaluator]
    pools += [*profile.teachers.values(), *profile.trainers.values(), *profile.evaluators.values()]
    is_ours = profile.ray.address == "local" and sys.platform == "linux"
    return is_ours and profile.ray.fork_workers and not any(pool.gpus for pool in pools)


@contextmanager
def fork_workers() -> Iterator[None]:
    """Let the Ray that is started inside have its workers forked."""
    with tempfile.TemporaryDirectory(prefix="rayleigh-", ignore_cleanup_errors=True) as folder:
        path, script = Path(folder, "forks"), ray_constants.SETUP_WORKER_FILENAME
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(socket.SOMAXCONN)
            command = [sys.executable, fork_server.__file__, str(listener.fileno()), "first", *MODULES]
            # in a group of its own Ctrl-C does not reach it, as it does not reach Ray's processes
            server = subprocess.Popen(command, pass_fds=[listener.fileno()], stdin=subprocess.PIPE, process_group=0)
        setup = Path(ray_constants.__file__).parent / "workers" / script
        os.environ |= {fork_worker.SERVER: str(path), fork_worker.SETUP: str(setup)}
        ray_constants.SETUP_WORKER_FILENAME = fork_worker.__file__  # joined to a folder of Ray's; of an absolute path that is left
        try:
            yield
        finally:
            ray_constants.SETUP_WORKER_FILENAME = script
            for name in (fork_worker.SERVER, fork_worker.SETUP):
                os.environ.pop(name, None)
            _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    server.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        server.wait(GRACE)
    server.kill()
    server.wait()
