"""Processes that promote and roll back at the same time, some of which are killed, leave one linear history."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest

from engine.records.record import Identity
from engine.release.registry import Registry
from engine.rows import content_id
from engine.storage.artifact import ArtifactWriter, RowCounts
from engine.storage.folder import Folder

SCRIPT = Path(__file__).parent / "registry_world.py"


def students(folder: Path, count: int) -> None:
    for number in range(count):
        writer = ArtifactWriter(Folder(str(folder / str(number) / "student")))
        writer.folder.write("model/weights.bin", f"weights {number}".encode() * 1000)
        writer.finish(Identity("student", {}, {}, content_id(number)), RowCounts(0, {}))


@pytest.mark.parametrize(
    ("store", "processes", "turns", "kills"),
    [("disk", 8, 20, 8), ("s3", 4, 5, 3), pytest.param("s3", 8, 20, 8, marks=pytest.mark.chaos)],
)
def test_history_is_linear_after_kills_and_lacks_no_event(tmp_path, request, store, processes, turns, kills):
    students(tmp_path / "runs", 5)
    rng, said, variables = random.Random(0), [], {"PYTHONPATH": str(SCRIPT.parents[2])}
    registry = str(tmp_path / "registry")
    if store == "s3":
        registry = f"{request.getfixturevalue('s3')}/{tmp_path.name}"
        variables["FSSPEC_S3"] = json.dumps(fsspec.config.conf["s3"])

    def start(seed: int) -> subprocess.Popen:
        words = [sys.executable, str(SCRIPT), registry, str(tmp_path / "runs"), str(seed), str(turns)]
        said.append(tmp_path / f"{seed}.log")
        with said[-1].open("w") as log:
            return subprocess.Popen(words, stdout=log, env={**os.environ, **variables})

    running = [start(seed) for seed in range(processes)]
    for number in range(kills):
        time.sleep(rng.uniform(0.2, 0.6))
        victim = rng.randrange(processes)
        running[victim].kill()
        running[victim].wait()
        running[victim] = start(processes + number)
    assert [process.wait() for process in running] == [0] * processes

    shelf = Registry(Folder(registry), "forms")
    events = shelf.history()
    by_id, champion = {event.id: event for event in events}, None
    for event in events:
        if event.kind == "promote":
            assert event.before == (champion and champion.id)
            champion = event
        else:
            assert champion and (event.from_id, event.to_id) == (champion.id, champion.before)
            champion = by_id[event.to_id or ""]
    assert shelf.champion == champion and champion
    assert {line for log in said for line in log.read_text().split()} <= by_id.keys()
    shelf.verify(champion)
