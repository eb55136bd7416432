"""A full object store on a full disk: the command stops, says which is full and what to change; with room the same one goes on."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

# In a mount namespace of its own, where Ray's temporary folder, to which it spills, is a disk of the size that is given.
DRIVER = """
import sys
from functools import partial
from pathlib import Path
from dataclasses import replace

import numpy as np
import pyarrow as pa

from engine.contract.profile import Pool, Ray
from engine.distributed import session, stream
from jobs.terminal.console import Console
from jobs.terminal.session import ray_session
from tests.unit.made_run import workspace

here, disk = Path(sys.argv[1]), sys.argv[2]
session.start = partial(session.start, _temp_dir=disk)


def large(rows):
    return pa.table({"x": pa.array([np.random.default_rng(0).bytes(20_000_000)], pa.large_binary())})


made = workspace(str(here / "run"), here)
work = replace(made, profile=made.profile.model_copy(update={"ray": Ray(address="local", num_cpus=2, object_store_gib=0.1)}))
try:
    with ray_session(work, Console()):
        rows = stream.apply(stream.from_items([{"n": number} for number in range(12)], 12), large, Pool())
        print("rows", rows.materialize().count())
except Exception as error:
    print(f"{type(error).__name__}: {error} {' '.join(error.__notes__)}")
"""


def drive(here: Path, megabytes: int) -> str:
    """Return what the driver prints with so large a disk under Ray's temporary folder."""
    (here / "driver.py").write_text(DRIVER)
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as disk:  # short: sockets lie in it
        mount = f"mount -t tmpfs -o size={megabytes}m tmpfs {disk} && exec {sys.executable} {here}/driver.py {here} {disk}"
        done = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", mount], capture_output=True, text=True, timeout=400
        )
    return done.stdout + done.stderr + "".join(log.read_text()[-6000:] for log in (here / "run").glob("logs/*.log"))


def test_a_full_store_on_a_full_disk_says_so_and_with_room_it_goes_on(tmp_path, monkeypatch):
    if subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no mount namespace, so there is no small disk")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    (tmp_path / "small").mkdir()
    found = drive(tmp_path / "small", 80)
    assert "StorageError" in found and "the object store is full, and so is the disk" in found, found
    assert "Make room on the disk of Ray's temporary folder" in found and "run the same command again" in found
    (tmp_path / "large").mkdir()
    found = drive(tmp_path / "large", 1000)
    assert "rows 12" in found, found
