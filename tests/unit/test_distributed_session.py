"""What a session knows of the nodes of its cluster, and how it ends. Without Ray."""

from types import SimpleNamespace
from typing import Any

import pytest

from engine.contract.profile import Pool, Profile
from engine.distributed import session
from engine.distributed.capacity import of_pool
from engine.distributed.placement import place


def node(name: str, *, alive: bool = True, cpus: float = 8, **labels: str) -> dict[str, Any]:
    """Return a node as `ray.nodes` does, with the resources and the label that Ray adds by itself."""
    has = {"CPU": cpus, f"node:{name}": 1.0, "memory": 1e9, "object_store_memory": 1e9}
    return {"Alive": alive, "Resources": has, "Labels": {"ray.io/node-id": name, **labels}}


def test_nodes_of_equal_resources_keep_their_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node("1", zone="a"), node("2", zone="b"), node("3", zone="a"), node("4", zone="a", alive=False), node("5", cpus=4)]
    monkeypatch.setattr(session.ray, "nodes", lambda: nodes)
    groups = session.running_groups()
    assert [(group.has, group.running, group.labels) for group in groups] == [
        ({"CPU": 8}, 2, {"zone": "a"}),
        ({"CPU": 8}, 1, {"zone": "b"}),
        ({"CPU": 4}, 1, {}),
    ]
    wants = [of_pool(zone, zone, Pool(actors=2, cpus=8, labels={"zone": zone}), "teacher") for zone in "abc"]
    assert [placement.placed for placement in place(wants, groups)] == [2, 1, 0]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a session on a cluster that it has joined does at its end; the cluster refuses to remove anything."""
    done: list[str] = []
    ray = SimpleNamespace(up=False)

    def turn(up: bool) -> None:
        if not up:
            done.append("shutdown")
        ray.up = up

    def forget() -> None:
        done.append("forget")
        raise RuntimeError("the head does not answer")

    ray.is_initialized, ray.init, ray.shutdown = lambda: ray.up, lambda **_: turn(True), lambda: turn(False)
    monkeypatch.setattr(session, "ray", ray)
    monkeypatch.setattr(session, "forget", forget)
    return done


CLUSTER = Profile.model_validate({"name": "p", "ray": {"address": "auto"}})


def test_a_finished_run_does_not_fail_because_the_cluster_is_not_tidied(ends: list[str]) -> None:
    with session.session(CLUSTER, data=False):
        pass
    assert ends == ["forget", "shutdown"]


def test_a_failed_run_tidies_the_cluster_too_and_its_own_error_is_told(ends: list[str]) -> None:
    with pytest.raises(ValueError, match="of the run"), session.session(CLUSTER, data=False):
        raise ValueError("of the run")
    assert ends == ["forget", "shutdown"]


def test_without_a_connection_nothing_is_tidied(ends: list[str]) -> None:
    with session.session(CLUSTER, data=False):
        session.ray.shutdown()
    assert ends == ["shutdown", "shutdown"]
