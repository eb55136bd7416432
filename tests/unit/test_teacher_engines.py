"""How many engines of a teacher one machine starts, where the profile gives a range."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.contract.load import load_contract
from engine.contract.models import FakeModel, Model, VllmModel
from engine.contract.profile import Profile
from engine.inference.room import ENGINE_GIB
from jobs import places
from jobs.steps import engines

SMOKE = Path(places.__file__).parent / "contracts/smoke.yaml"
EACH = {"kv_cache_gib": 2 - ENGINE_GIB}  # 2 GiB, without weights
RANGE = {"actors": {"min": 1, "max": 2}, **EACH}
VLLM = VllmModel(type="vllm", path="m")


@pytest.fixture
def actors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the fewest and most actors of the first teacher, by the pool of all and `free` GiB."""
    monkeypatch.setattr(engines, "found", lambda context, path: tmp_path)

    def run(pool: dict, *, free: float, model: Model = VLLM, job: str = "candidates", changes: Any = (), **profile: Any) -> Any:
        monkeypatch.setattr(engines, "free_gib", lambda: free)
        sections = {"name": "p", "ray": {"address": "local", "object_store_gib": 0.5}, "teacher": pool, "judge": EACH} | profile
        contract = load_contract(SMOKE, changes).contract
        context: Any = SimpleNamespace(profile=Profile.model_validate(sections), contract=contract, job=SimpleNamespace(name=job))
        found = engines.teacher_pool(context, contract.teachers.models[0].name, model, tmp_path)
        return found.fewest, found.actors

    return run


def test_as_many_engines_start_as_memory_has_room_for(actors: Any) -> None:
    assert actors(RANGE, free=8.0) == (2, 2)  # 6 beside what is reserved: two engines, and one of the judge
    assert actors(RANGE, free=7.9) == (1, 1)


def test_a_number_of_engines_stays(actors: Any) -> None:
    assert actors({**RANGE, "actors": 3}, free=1.0) == (3, 3)


def test_engines_of_the_same_job_share_the_memory(actors: Any) -> None:
    one = '{"name": "%s", "model": {"type": "vllm", "path": "m"}, "sampling": {"n": 2, "greedy_first": true}}'
    two = [f"teachers.models=[{one % 'a'}, {one % 'b'}]"]
    direct = [*two, 'judges={"checks": [{"type": "json_schema"}]}', "teachers.mode=direct"]
    assert actors(RANGE, free=8.0, changes=direct) == (2, 2)  # two engines of the first, and one of the second
    assert actors(RANGE, free=7.9, changes=direct) == (1, 1)
    assert actors(RANGE, free=6.0, changes=direct, job="capture") == (2, 2)  # one teacher after the other


def test_nodes_of_a_cluster_and_gpus_grow_with_the_work(actors: Any) -> None:
    assert actors(RANGE, free=1.0, ray={"address": "auto"}) == (1, 2)
    assert actors({**RANGE, "gpus": 1}, free=1.0) == (1, 2)


def test_a_server_is_asked_by_the_fewest(actors: Any) -> None:
    assert actors(RANGE, free=99.0, model=FakeModel(type="fake")) == (1, 1)
