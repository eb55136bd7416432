"""A full object store on a full disk: the command stops, says which is full and what to change, and what was finished is kept."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from engine.contract.profile import Pool, Ray
from engine.distributed import session, stream
from engine.errors import StorageError
from jobs.terminal.console import Console
from jobs.terminal.session import ray_session
from tests.unit.made_run import workspace

BLOCKS, BYTES = 12, 20_000_000
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


def large(rows: pa.Table) -> pa.Table:
    return pa.table({"x": pa.array([np.random.default_rng(0).bytes(BYTES)], pa.large_binary())})


def test_a_full_store_on_a_full_disk_says_so(tmp_path, monkeypatch):
    made = workspace(str(tmp_path / "run"), tmp_path)
    ray = Ray(address="local", num_cpus=2, object_store_gib=0.1)
    work = replace(made, profile=made.profile.model_copy(update={"ray": ray}))
    monkeypatch.setattr(session, "SYSTEM", {**session.SYSTEM, "local_fs_capacity_threshold": 0.0001})  # each disk counts as full
    words = r"object store is full, and so is the disk.*Make room.*`batch`"
    with pytest.raises(StorageError, match=words) as caught, ray_session(work, Console()):
        rows = stream.apply(stream.from_items([{"n": number} for number in range(BLOCKS)], BLOCKS), large, Pool())
        rows.materialize()
    assert "run the same command again" in "".join(caught.value.__notes__)
