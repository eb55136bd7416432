"""Workers of a local Ray are forks of a process with the imports done: they share nothing, and end as workers of Ray's own do."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from engine.contract.profile import Pool, Profile, Ray
from engine.distributed import fork_server, fork_worker
from engine.distributed.forks import can_fork

ROOT = Path(__file__).parents[2]
SERVER, STANDS_FOR = fork_server.__file__, fork_worker.__file__
SESSION = """
import json, os, random, signal, subprocess, sys, time
from pathlib import Path
import numpy as np
import psutil
import ray
from engine.contract.profile import Profile, Ray
from engine.distributed.environment import importing
from engine.distributed.session import session

class Worker:
    def facts(self):
        process = psutil.Process()
        return {
            "pid": process.pid, "parent": process.parent().cmdline(), "python": random.random(), "numpy": np.random.random(),
            "id": ray.UniqueID.from_random().hex(), "variable": os.environ.get("COLOUR"),
            "imported": "sqlite3.dbapi2" in sys.modules,
        }

    def child(self):
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid

    def sleep(self):
        time.sleep(600)

def actors(count, **variables):
    options = {"runtime_env": {"env_vars": variables}} if variables else {}
    return [ray.remote(Worker).options(num_cpus=1, **options).remote() for _ in range(count)]

def facts(count, **variables):
    made = actors(count, **variables)
    found = ray.get([actor.facts.remote() for actor in made])
    for actor in made:
        ray.kill(actor)
    return found

with session(Profile(name="test", ray=Ray(num_cpus=8, object_store_gib=0.1, fork_workers=True)), data=False):
"""
LOOK = """
    given = facts(2, COLOUR="red", **importing(["sqlite3.dbapi2"]))
    found = {"plain": facts(3), "given": given, "reference": facts(1, COLOUR="$HOME")}
    print(json.dumps(found))
"""
SLEEP = """
    sleepers = actors(3)
    pids = ray.get([sleeper.facts.remote() for sleeper in sleepers])
    children = ray.get([sleeper.child.remote() for sleeper in sleepers])
    Path(sys.argv[1]).write_text(json.dumps([[each["pid"] for each in pids], children]))
    while not Path(sys.argv[2]).exists():
        time.sleep(0.1)
    ray.kill(sleepers[2])
    [again] = facts(1)  # others are made
    Path(sys.argv[3]).write_text(json.dumps(again["parent"]))
    time.sleep(600)
"""


def driver(body, *arguments, **options):
    """A process of its own: in that of the tests, Ray may run already, without forks."""
    command = [sys.executable, "-c", SESSION + body, *map(str, arguments)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, start_new_session=True, **options)


def written(path, process):
    """What `process` writes into the file `path`."""
    while not path.exists() or not path.read_text():
        assert process.poll() is None
        time.sleep(0.1)
    return json.loads(path.read_text())


def left(*pids, seconds=30.0):
    """Those of `pids` that still run after `seconds`, as soon as there are none."""
    deadline = time.monotonic() + seconds
    while found := [each for each in map(described, pids) if each]:
        if time.monotonic() > deadline:
            return found
        time.sleep(0.1)
    return []


def described(pid):
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{pid} {process.cmdline()}"
    except psutil.NoSuchProcess:
        return ""


@pytest.fixture(scope="module")
def found():
    with driver(LOOK, stdout=subprocess.PIPE) as process:
        return json.loads(process.communicate(timeout=300)[0].splitlines()[-1])


def test_workers_are_forks_that_draw_numbers_and_ids_of_their_own(found):
    facts = [*found["plain"], *found["given"]]
    assert all(SERVER in each["parent"] for each in facts)
    for drawn in ("pid", "python", "numpy", "id"):
        assert len({each[drawn] for each in facts}) == len(facts) == 5, drawn


def test_variables_are_there_and_modules_imported(found):
    plain, (red, same), [reference] = found["plain"][0], found["given"], found["reference"]
    assert (plain["variable"], plain["imported"]) == (None, False)
    assert red["variable"] == same["variable"] == "red" and red["imported"] and same["imported"]
    assert red["parent"] == same["parent"] != plain["parent"]
    assert reference["variable"] == os.environ["HOME"] and SERVER not in reference["parent"]  # Ray itself has started it


def test_worker_ends_with_its_children_and_all_end_with_a_driver_that_is_killed(tmp_path):
    ready, go, again = tmp_path / "ready", tmp_path / "go", tmp_path / "again"
    process = driver(SLEEP, ready, go, again)
    try:
        workers, children = written(ready, process)
        assert all(SERVER in described(psutil.Process(pid).ppid()) for pid in workers)
        os.kill(workers[0], signal.SIGKILL)
        assert not left(workers[0], children[0])
        go.touch()  # the driver has Ray end the last one
        assert SERVER in written(again, process) and not left(workers[2], children[2])
        family = {each.pid: described(each.pid) for each in psutil.Process(process.pid).children(recursive=True)}
        ours = [pid for pid, line in family.items() if any(name in line for name in ("ray::Worker", SERVER, STANDS_FOR))]
        assert len(ours) >= 3  # a worker, what stands for it, and the server
    finally:
        process.kill()
        process.wait()
    assert not left(*ours, children[1], seconds=60)


def test_nothing_is_forked_where_a_gpu_is_used_or_a_cluster_is_joined_or_the_profile_does_not_say_so():
    fork = Ray(fork_workers=True)
    assert can_fork(Profile(name="here", ray=fork))
    assert not can_fork(Profile(name="gpu", ray=fork, evaluators={"s": Pool(gpus=1)}))
    assert not can_fork(Profile(name="joined", ray=Ray(address="auto", fork_workers=True)))
    assert not can_fork(Profile(name="off"))
