"""What a session knows of the nodes of its cluster, and how it ends. Without Ray."""

from types import SimpleNamespace
from typing import Any

import pytest
from test_capacity import contract

from engine.contract.profile import Pool, Profile
from engine.distributed import placement, session
from engine.distributed.capacity import of_pool
from engine.distributed.placement import place
from engine.errors import InputError
from jobs.commands.check_placement import held_by_others
from jobs.terminal.session import check_capacity


def node(name: str, *, alive: bool = True, cpus: float = 8, **labels: str) -> dict[str, Any]:
    """Return a node as `ray.nodes` does, with the resources and the label that Ray adds by itself."""
    has = {"CPU": cpus, f"node:{name}": 1.0, "memory": 1e9, "object_store_memory": 1e9}
    return {"NodeID": name, "Alive": alive, "Resources": has, "Labels": {"ray.io/node-id": name, **labels}}


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


SPOT = {"name": "spot", "cpus": 8, "max": 2, "spot": True}
SAFE = {"name": "safe", "cpus": 8, "max": 3}


def growth(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, Any], groups: tuple[dict[str, Any], ...] = (SPOT, SAFE)) -> Any:
    """Return group -> nodes that the cluster may add to those that run."""
    monkeypatch.setattr(session.ray, "nodes", lambda: list(nodes))
    monkeypatch.setattr(session.state, "get_cluster_config", lambda: None)
    found, is_known = session.groups(Profile.model_validate({"name": "p", "ray": {"address": "auto"}, "nodes": groups}))
    assert is_known
    return {group.name: group.most for group in found if not group.running}


def test_a_running_node_is_subtracted_from_its_own_group_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert growth(monkeypatch) == {"spot": 2, "safe": 3}
    named = [node(str(at), **{"ray.io/node-group": "spot"}) for at in range(2)]
    assert growth(monkeypatch, *named) == {"safe": 3}
    labelled = [node(str(at), **{"ray.io/market-type": "spot"}) for at in range(2)]
    assert growth(monkeypatch, *labelled) == {"safe": 3}
    plain = [node(str(at)) for at in range(3)]  # as of `ray start` by hand: each counts once
    assert growth(monkeypatch, *plain) == {"safe": 2}
    assert growth(monkeypatch, node("1", cpus=4)) == {"spot": 2, "safe": 3}
    other = ({**SAFE, "resources": {"licence": 1}}, SPOT)
    assert growth(monkeypatch, node("1"), groups=other) == {"safe": 3, "spot": 1}


def test_a_cluster_of_this_machine_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.ray, "nodes", lambda: [node("1")])
    [group], is_known = session.groups(Profile.model_validate({"name": "p", "nodes": [SAFE]}))
    assert (group.name, group.most, is_known) == ("this machine", 1, True)
    [found] = place([of_pool("job", "teacher t", Pool(actors=9), "teacher")], [group])
    assert found.note == "8 of 9 find room: lower teacher.actors to 8"


def test_what_other_jobs_hold_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.ray, "nodes", lambda: [node("1"), node("2"), node("3", alive=False)])
    monkeypatch.setattr(session.state, "available_resources_per_node", lambda: {"1": {"memory": 1e9}, "2": {"CPU": 3.0}})
    monkeypatch.setattr(placement, "_why", lambda *_: pytest.fail("no one reads why, and a large cluster has many kinds of nodes"))
    nodes, free = session.running_groups(), session.running_groups(free=True)
    wants = [of_pool("job", "teacher t", Pool(actors=6), "teacher"), of_pool("job", "one task", Pool(), "cpu")]
    assert list(held_by_others(wants, nodes, free)) == [
        "WARNING: this run waits: 13 of 16 CPUs are held by other jobs of the cluster.",
        "  job: teacher t (teacher): 2 of 6 can begin now",
    ]
    assert list(held_by_others(wants, nodes, nodes)) == []


def capacity_of(monkeypatch: pytest.MonkeyPatch, profile: dict[str, Any], nodes: list[dict[str, Any]], free: Any) -> list[str]:
    """Return what a run says of the cluster that it has joined or started."""
    monkeypatch.setattr(session.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(session.state, "get_cluster_config", lambda: None)
    monkeypatch.setattr(session.state, "available_resources_per_node", lambda: free)
    said: list[str] = []
    work: Any = SimpleNamespace(contract=contract(), profile=Profile.model_validate({"name": "p", **profile}))
    check_capacity(work, ["candidates"], SimpleNamespace(log=said.append))  # pyright: ignore[reportArgumentType]
    return said


def test_a_run_on_a_full_cluster_says_that_it_waits_and_one_on_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    auto = {"ray": {"address": "auto"}}
    assert capacity_of(monkeypatch, auto, [node("1")], {"1": {"CPU": 8.0}}) == []
    said = capacity_of(monkeypatch, auto, [node("1")], {"1": {"CPU": 1.0}})
    assert said[0] == "WARNING: this run waits: 7 of 8 CPUs are held by other jobs of the cluster." and len(said) == 3
    assert capacity_of(monkeypatch, {}, [node("1", cpus=3)], {}) == []
    with pytest.raises(InputError, match=r"(?s)forever.*label zone=a .*Lower these pools"):
        capacity_of(monkeypatch, {"judge": {"labels": {"zone": "a"}}}, [node("1")], {})
    with pytest.raises(InputError, match=r"9 find room: lower teacher\.actors to \d"):
        capacity_of(monkeypatch, {"teacher": {"actors": 9}}, [node("1")], {})


def test_what_is_free_of_a_shared_gpu_has_room_for_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.ray, "nodes", lambda: [node("1")])
    monkeypatch.setattr(session.state, "available_resources_per_node", lambda: {"1": {"CPU": 8.0, "GPU": 1.5}})
    free = session.running_groups(free=True)
    shares = [of_pool(str(share), "judges", Pool(actors=9, gpus=share), "judge") for share in (0.5, 0.6, 1)]
    assert [placement.placed for placement in place(shares, free)] == [3, 1, 1]


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
