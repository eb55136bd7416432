"""What a session knows of the nodes of its cluster, and how it ends. Without Ray."""

from typing import Any

import pytest

from engine.contract.profile import Pool
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
