"""How a slow actor lets another take its place, and gives its batch back, with a key-value store in place of Ray's head."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from engine.calls import LOADING, ModelCall
from engine.contract.profile import Pool
from engine.distributed import drain, peers
from engine.distributed.peers import PeerGroup, Peers
from engine.distributed.stragglers import Slow

GIVES_BACK = """
import subprocess, sys
from engine.distributed.drain import _Watch
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
own = subprocess.Popen(sleep, start_new_session=True)
nested = "import subprocess, sys; child = subprocess.Popen(sys.argv[1:]); print(child.pid, flush=True); child.wait()"
child = subprocess.Popen([sys.executable, "-c", nested, *sleep], start_new_session=True, stdout=subprocess.PIPE, text=True)
print(own.pid, child.pid, child.stdout.readline(), flush=True)
_Watch._give_back(None)
"""


def test_an_actor_that_gives_its_batch_back_leaves_no_process_behind() -> None:
    """As vLLM's engine core, the processes are in sessions of their own; one is a grandchild."""
    ended = subprocess.run([sys.executable, "-c", GIVES_BACK], stdout=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL  # Ray restarts no actor that ends otherwise
    started = [int(pid) for pid in ended.stdout.split()]
    assert len(started) == 3
    end = time.monotonic() + 30
    while any(is_running(pid) for pid in started):
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Head:
    """Ray's head as an actor on node `own` asks it: a key-value store that counts its calls, and nodes with free CPUs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stored: dict[str, Any] = {}
        self.puts = 0
        self.free: dict[str, dict[str, float]] = {"own": {"CPU": 8.0}}
        self.listeners: list[Callable[[ModelCall], None]] = []
        ids = {"get_actor_id": "actor", "get_node_id": "own", "get_job_id": "job", "get_node_labels": {}}
        context = SimpleNamespace(**{name: lambda value=value: value for name, value in ids.items()})
        asked = SimpleNamespace(available_resources_per_node=lambda: self.free, get_draining_nodes=dict)
        nodes = lambda: [{"NodeID": name, "Alive": True} for name in self.free]  # noqa: E731
        for module in (peers, drain):
            monkeypatch.setattr(module, "ray", SimpleNamespace(get_runtime_context=lambda: context, nodes=nodes))
            monkeypatch.setattr(module, "state", asked)
        for name, function in {"_put": self.put, "_delete": self.delete, "_keys": self.keys, "_values": self.values}.items():
            monkeypatch.setattr(peers, name, function)
        monkeypatch.setattr(peers, "on_call", self.listeners.append)
        monkeypatch.setattr(peers, "get_node_ip_address", lambda: "10.0.0.1")

    def put(self, key: str, value: Any, *, overwrite: bool = True) -> bool:
        self.puts += 1
        if key in self.stored and not overwrite:
            return False
        self.stored[key] = value
        return True

    def delete(self, key: str) -> bool:
        return self.stored.pop(key, None) is not None

    def keys(self, prefix: str) -> list[bytes]:
        return [key.encode() for key in self.stored if key.startswith(prefix)]

    def values(self, keys: list[bytes]) -> list[Any]:
        return [self.stored[key.decode()] for key in keys]


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Head:
    return Head(monkeypatch)


SLOW = Slow(5.0, 5.0, 1.0, 3)


def slow_actor(actors: int = 8) -> Peers:
    actor = Peers(PeerGroup("step", Pool(actors=actors, cpus=4)))
    actor.slow = SLOW
    return actor


def test_a_slow_actor_leaves_only_if_another_node_has_room(head: Head) -> None:
    actor = slow_actor()
    assert not actor.may_leave()  # one node
    head.free["other"] = {"CPU": 3.0}
    actor.slow = SLOW
    assert not actor.may_leave()
    assert not head.keys("peers:job:step:left:")  # no replacement is used up
    head.free["other"] = {"CPU": 4.0}
    actor.slow = SLOW
    assert actor.may_leave()
    assert actor.must_return()
    head.free["other"] = {"CPU": 3.0}
    assert not actor.must_return()


def test_a_replacement_is_found_at_once_and_none_beyond_the_most(head: Head) -> None:
    head.free["other"] = {"CPU": 4.0}
    for number in range(99):
        head.stored[f"peers:job:step:left:{number}"] = {"actor": f"a{number}", "node": "own"}
    assert slow_actor(200).may_leave()
    assert head.puts == 1 and "peers:job:step:left:99" in head.stored
    head.stored["peers:job:step:left:99"] = {"actor": "another", "node": "own"}
    assert not slow_actor(200).may_leave()
    assert head.puts == 1


@pytest.mark.parametrize("name", ["put", "keys", "values"])
def test_a_head_that_is_away_fails_no_batch(head: Head, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the head is away")

    head.free["other"] = {"CPU": 4.0}
    head.stored["peers:job:step:left:0"] = {"actor": "actor", "node": "own"}  # so the constructor asks for room, too
    monkeypatch.setattr(peers, f"_{name}", fail)
    monkeypatch.setattr(peers, "_delete", fail)
    monkeypatch.setattr(drain, "draining", fail)
    monkeypatch.setattr(drain._Watch, "_give_back", lambda _: pytest.fail("the batch was given back"))
    monkeypatch.setattr(drain, "threading", SimpleNamespace(Thread=lambda **_: SimpleNamespace(start=lambda: None)))
    watch = drain._Watch(PeerGroup("step", Pool(actors=8, cpus=4)))
    assert watch.peers
    watch.peers.slow = SLOW
    watch.check()


def test_the_actors_of_a_pool_do_not_look_at_the_same_moment(head: Head) -> None:
    first = {slow_actor(1000)._next - time.monotonic() for _ in range(20)}
    assert min(first) < 40 and max(first) > 60 and max(first) <= 100


def test_loads_and_calls_without_an_answer_are_no_work(head: Head) -> None:
    """So a peer that worked before them is not compared, or it would count as one that works beside this actor."""
    actor = slow_actor()
    for call in (ModelCall(LOADING, 300.0), ModelCall("teacher", 9.0), ModelCall("teacher", 1.0, 8, 100, 100)):
        head.listeners[-1](call)
    assert len(actor._ends) == actor.window.count == 1
