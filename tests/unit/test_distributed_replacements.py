"""How many actors of a pool are replaced, and when a new process goes on to another node. Ray's store is a dictionary here."""

from types import SimpleNamespace
from typing import Any

import pytest

from engine.calls import ModelCall
from engine.contract.profile import Pool
from engine.distributed import peers
from engine.distributed.peers import RETURNS, PeerGroup, Peers, group_of


class Store:
    def __init__(self) -> None:
        self.held: dict[bytes, bytes] = {}

    def _internal_kv_put(self, key: str, value: str, overwrite: bool = True, *, namespace: bytes) -> bool:
        is_there = key.encode() in self.held
        if overwrite or not is_there:
            self.held[key.encode()] = value.encode()
        return is_there

    def _internal_kv_del(self, key: str, *, namespace: bytes) -> None:
        self.held.pop(key.encode(), None)

    def _internal_kv_list(self, prefix: str, *, namespace: bytes) -> list[bytes]:
        return [key for key in self.held if key.startswith(prefix.encode())]

    def internal_kv_get_gcs_client(self) -> Any:
        return SimpleNamespace(internal_kv_multi_get=lambda keys, namespace: {key: self.held[key] for key in keys})


class World:
    """Two nodes with room, and a store."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch, self.free = patch, {"a": {"CPU": 4.0}, "b": {"CPU": 4.0}}
        patch.setattr(peers, "internal_kv", Store())
        patch.setattr(peers, "on_call", lambda listener: None)
        patch.setattr(peers, "get_node_ip_address", lambda: "10.0.0.1")
        patch.setattr(peers.ray, "nodes", lambda: [{"NodeID": node, "Alive": True, "Labels": {}} for node in self.free])
        found = SimpleNamespace(available_resources_per_node=lambda: self.free, get_draining_nodes=lambda: {})
        patch.setattr(peers, "state", found)

    def born(self, actor: str, node: str, group: PeerGroup) -> Peers:
        context = SimpleNamespace(
            get_actor_id=lambda: actor, get_node_id=lambda: node, get_job_id=lambda: "1", get_node_labels=lambda: {}
        )
        self.patch.setattr(peers.ray, "get_runtime_context", lambda: context)
        return Peers(group)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def work(who: Peers, seconds: float) -> None:
    for _ in range(9):
        who._add(ModelCall("teacher", seconds, 8, 100, 100))
    who._next = 0.0
    who.look()


def group(actors: int) -> PeerGroup:
    return PeerGroup("g", Pool(actors=actors))


def test_half_of_a_pool_is_replaced_at_most(world: World, caplog: pytest.LogCaptureFixture) -> None:
    pool = group(7)
    fast = [world.born(f"fast{number}", "b", pool) for number in range(9)]
    for one in fast:
        work(one, 1.0)
        assert not one.may_leave()
    slow = [world.born(f"slow{number}", "a", pool) for number in range(5)]
    left = []
    for one in slow:
        work(one, 9.0)
        left.append(one.may_leave())
    assert left == [True, True, True, False, False]
    assert len([line for line in caplog.messages if "replacing a slow actor" in line]) == 3
    assert "slow0 on node 10.0.0.1, a, takes 9 s a call, its peers (9) take 1 s: at least 9 times" in caplog.messages[0]


def test_a_new_process_leaves_the_same_node_while_another_has_room_and_stays_at_last(world: World) -> None:
    pool = group(4)
    work(world.born("fast", "b", pool), 1.0)
    old = world.born("slow", "a", pool)
    work(old, 9.0)
    assert old.may_leave()
    assert not world.born("slow", "b", pool).must_return()
    assert not world.born("fast", "b", pool).must_return()
    room = world.free["b"]
    world.free["b"] = {"CPU": 0.5}
    assert not world.born("slow", "a", pool).must_return()  # no other has room
    world.free["b"] = room
    assert [world.born("slow", "a", pool).must_return() for _ in range(RETURNS + 2)] == [True] * RETURNS + [False] * 2
    stays = world.born("slow", "a", pool)
    work(stays, 9.0)
    assert not stays.may_leave()  # it has left this node before


def test_pools_that_are_not_compared() -> None:
    assert group_of(Pool(actors=2))
    assert not group_of(Pool())
    assert not group_of(Pool(actors=2, straggler_factor=None))
    assert not group_of(Pool(actors=2, gpus=1, pipeline=2))
