"""How many engines of each teacher one machine starts, where the profile gives a range."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.contract.load import load_contract
from engine.contract.models import VllmModel
from engine.contract.profile import Pool, Profile
from engine.inference.client import ClientSpec
from engine.inference.room import ENGINE_GIB
from engine.storage.folder import Folder
from engine.teachers.labels import LabelsSpec
from engine.teachers.teacher import TeacherSpec
from jobs import places
from jobs.steps import engines

CONTRACT = load_contract(Path(places.__file__).parent / "contracts/smoke.yaml").contract
RANGE = {"actors": {"min": 1, "max": 2}, "kv_cache_gib": 2 - ENGINE_GIB}  # 2 GiB each, without weights


@pytest.fixture
def actors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the fewest and most actors of each teacher, by its pool and `free` GiB, and what was said."""

    def run(*pools: dict, free: float, contract: Any = CONTRACT, **profile: Any) -> tuple[list[tuple[int, int]], list[str]]:
        monkeypatch.setattr(engines, "free_gib", lambda: free)
        sections = {"name": "p", "ray": {"address": "local", "object_store_gib": 0.5}} | profile
        said: list[str] = []
        context: Any = SimpleNamespace(
            profile=Profile.model_validate(sections), contract=contract, job=SimpleNamespace(name="candidates"), log=said.append
        )
        specs: list[TeacherSpec | LabelsSpec] = [LabelsSpec("people")]
        for number, pool in enumerate(pools):
            model, place = VllmModel(type="vllm", path="m"), Folder(str(tmp_path))
            client = ClientSpec(model, Pool.model_validate(pool), tmp_path, place, place, place)
            section = contract.teachers.models[0].model_copy(update={"name": f"t{number}"})
            specs.append(TeacherSpec(section, contract.specialist, client))
        people, *found = engines.with_engines(context, specs)
        assert people == specs[0]
        pools_found = [spec.client.pool for spec in found if isinstance(spec, TeacherSpec)]
        return [(pool.fewest, pool.actors) for pool in pools_found], said

    return run


def test_as_many_engines_start_as_memory_has_room_for(actors: Any) -> None:
    assert actors(RANGE, free=6.0) == ([(2, 2)], [])
    found, [said] = actors(RANGE, free=5.9)
    assert found == [(1, 1)]
    assert said == "candidates: 1 of 2 engines of t0: each takes about 2.0 GiB, and 3.9 are free for them"
    assert actors(RANGE, RANGE, free=8.0)[0] == [(2, 2), (1, 1)]


def test_a_number_of_engines_stays_and_its_memory_is_taken(actors: Any) -> None:
    assert actors({**RANGE, "actors": 3}, free=1.0) == ([(3, 3)], [])
    assert actors({**RANGE, "actors": 1}, RANGE, free=8.0)[0] == [(1, 1), (2, 2)]
    assert actors({**RANGE, "actors": 1}, RANGE, free=7.9)[0] == [(1, 1), (1, 1)]


def test_nodes_of_a_cluster_and_gpus_grow_with_the_work(actors: Any) -> None:
    assert actors(RANGE, free=1.0, ray={"address": "auto"}) == ([(1, 2)], [])
    assert actors({**RANGE, "gpus": 1}, free=1.0) == ([(1, 2)], [])
