"""Workers of a local Ray are forks of a process with the imports done: they share nothing, and end as workers of Ray's own do."""

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
from engine.distributed.environment import importing
from engine.distributed.forks import can_fork

ROOT = Path(__file__).parents[2]
SERVER, STANDS_FOR = fork_server.__file__, fork_worker.__file__
DRIVER = """
import sys, time
from pathlib import Path
import ray
from engine.contract.profile import Profile, Ray
from engine.distributed.session import session

with session(Profile(name="test", ray=Ray(num_cpus=6, object_store_gib=0.1)), data=False):
    class Sleeper:
        def sleep(self):
            time.sleep(600)
    sleepers = [ray.remote(Sleeper).options(num_cpus=1).remote() for _ in range(2)]
    calls = [sleeper.sleep.remote() for sleeper in sleepers]
    time.sleep(3)
    Path(sys.argv[1]).write_text("ready")
    time.sleep(600)
"""


def worker_class():
    """An actor that says what it is. In a function, so that it travels by value: workers can't import tests."""

    class Worker:
        """An actor that says what it is."""

        def facts(self):
            import random

            import numpy as np
            import ray

            process = psutil.Process()
            return {
                "pid": process.pid,
                "parent": process.parent().cmdline(),
                "python": random.random(),
                "numpy": np.random.random(),
                "id": ray.UniqueID.from_random().hex(),
                "variable": os.environ.get("COLOUR"),
                "imported": "sqlite3.dbapi2" in sys.modules,
                "threads": process.num_threads(),
            }

        def child(self):
            return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid

        def end(self):
            os._exit(3)

    return Worker


@pytest.fixture(scope="module")
def ray():
    import ray

    from engine.distributed.session import session

    with session(Profile(name="test", ray=Ray(num_cpus=8, object_store_gib=0.1)), data=False):
        yield ray


def actors(ray, count, **variables):
    options = {"runtime_env": {"env_vars": variables}} if variables else {}
    return [ray.remote(worker_class()).options(num_cpus=1, **options).remote() for _ in range(count)]


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


def running(script):
    return {each.pid for each in psutil.Process().children(recursive=True) if script in described(each.pid)}


def test_workers_are_forks_that_draw_numbers_and_ids_of_their_own(ray):
    facts = ray.get([actor.facts.remote() for actor in actors(ray, 3)])
    assert all(SERVER in each["parent"] for each in facts)
    for drawn in ("pid", "python", "numpy", "id"):
        assert len({each[drawn] for each in facts}) == 3, drawn


def test_variables_are_there_and_modules_imported(ray):
    [plain] = ray.get([actor.facts.remote() for actor in actors(ray, 1)])
    given = actors(ray, 2, COLOUR="red", **importing(["sqlite3.dbapi2"]))
    red, same = ray.get([actor.facts.remote() for actor in given])
    [blue] = ray.get(
        [actor.facts.remote() for actor in actors(ray, 1, COLOUR="$HOME")]
    )  # a reference: Ray itself starts the worker
    assert (plain["variable"], plain["imported"]) == (None, False)
    assert red["variable"] == same["variable"] == "red" and red["imported"] and same["imported"]
    assert red["pid"] != same["pid"] and red["parent"] == same["parent"] != plain["parent"]
    assert blue["variable"] == os.environ["HOME"] and SERVER not in blue["parent"]


@pytest.mark.parametrize("how", ["killed", "ended", "by Ray"])
def test_worker_ends_with_its_children_and_what_stands_for_it(ray, how):
    [actor] = actors(ray, 1)
    pid, child, before = ray.get(actor.facts.remote())["pid"], ray.get(actor.child.remote()), running(STANDS_FOR)
    if how == "killed":
        os.kill(pid, signal.SIGKILL)
    elif how == "ended":
        actor.end.remote()
    else:
        ray.kill(actor)
    assert not left(pid, child)
    deadline = time.monotonic() + 30
    while before <= running(STANDS_FOR) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not before <= running(STANDS_FOR)
    assert ray.get(actors(ray, 1)[0].facts.remote())["pid"] != pid  # others are made


def test_workers_and_servers_end_with_a_driver_that_is_killed(tmp_path):
    script, ready = tmp_path / "driver.py", tmp_path / "ready"
    script.write_text(DRIVER)
    driver = subprocess.Popen([sys.executable, script, ready], env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True)
    while not ready.exists():
        assert driver.poll() is None
        time.sleep(0.2)
    family = {each.pid: described(each.pid) for each in psutil.Process(driver.pid).children(recursive=True)}
    ours = [pid for pid, line in family.items() if any(name in line for name in ("ray::Sleeper", SERVER, STANDS_FOR))]
    assert len(ours) >= 5  # two workers, what stands for each, and the server
    driver.kill()
    driver.wait()
    assert not left(*ours, seconds=60)


def test_nothing_is_forked_where_a_gpu_is_used_or_a_cluster_is_joined_or_the_profile_says_so():
    assert can_fork(Profile(name="here"))
    assert not can_fork(Profile(name="gpu", evaluators={"s": Pool(gpus=1)}))
    assert not can_fork(Profile(name="joined", ray=Ray(address="auto")))
    assert not can_fork(Profile(name="off", ray=Ray(fork_workers=False)))
