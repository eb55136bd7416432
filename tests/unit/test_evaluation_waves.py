"""Which models answer the holdout at the same time, and with how many engines."""

import math
from pathlib import Path
from typing import Any

import pytest

from engine.contract.models import FakeModel
from engine.contract.profile import Profile
from engine.contract.specialist import TaskUnit
from engine.distributed.placement import Group
from engine.evaluation.evaluator import EvalTarget
from engine.evaluation.waves import gib, helpers, want, waves
from engine.inference.room import ENGINE_GIB

UNIT = TaskUnit.model_validate({"name": "echo", "kind": "rewrite", "instruction": "Repeat."})


def fake(**changes: Any) -> EvalTarget:
    fields = {"name": "echo", "role": "student", "model": FakeModel(type="fake"), "units": {"echo": UNIT}}
    return EvalTarget(**(fields | changes))


def nodes(has: dict[str, float], count: int = 1) -> list[Group]:
    return [Group("n", has, count, count, {"zone": "a"})]


def test_engines_that_do_not_fit_together_are_loaded_one_after_the_other() -> None:
    names = ("a", "b", "large", "c")
    targets = [fake(name=name) for name in names]
    large = {"gpus": 4, "pipeline": 2}
    profile = Profile.model_validate({"name": "p", "evaluator": {"actors": 2, "gpus": 1}, "evaluators": {"large": large}})

    def grouped(cpus: int, gpus: int) -> list[list[str]]:
        return [[target.name for target in wave] for wave in waves(targets, profile, nodes({"CPU": cpus, "GPU": gpus}))]

    assert grouped(8, 9) == [["a", "b"], ["large", "c"]]
    assert grouped(8, 8) == [["a", "b"], ["large"], ["c"]]
    assert grouped(1, 9) == [["a"], ["b"], ["large"], ["c"]]
    assert grouped(0, 0) == [["a"], ["b"], ["large"], ["c"]]  # `engine.distributed.capacity` has refused this before


@pytest.mark.parametrize(
    ("pool", "groups", "sizes"),
    [
        ({"resources": {"rack": 1}}, nodes({"CPU": 8, "rack": 1}), [1, 1, 1]),
        ({"cpus": 5}, nodes({"CPU": 8}, 2), [2, 1]),  # 15 of 16 CPUs, and yet a node has room for one
        ({"cpus": 5, "labels": {"zone": "a"}}, [*nodes({"CPU": 8}, 2), Group("other", {"CPU": 64}, 1, 1)], [2, 1]),
    ],
)
def test_engines_wait_for_each_other_where_no_node_has_room_for_one(pool: Any, groups: list[Group], sizes: list[int]) -> None:
    targets = [fake(name=name) for name in "abc"]
    profile = Profile.model_validate({"name": "p", "evaluator": {"actors": 3, **pool}})
    assert [len(wave) for wave in waves(targets, profile, groups)] == sizes


def test_engines_of_several_sizes_do_not_wait_for_one_that_ray_has_placed_badly() -> None:
    targets = [fake(name=name) for name in ("a", "b", "large")]
    profile = Profile.model_validate({"name": "p", "evaluator": {"actors": 3, "cpus": 4}, "evaluators": {"large": {"cpus": 8}}})

    def grouped(cpus: int, count: int) -> list[list[str]]:
        return [[target.name for target in wave] for wave in waves(targets, profile, nodes({"CPU": cpus}, count))]

    assert grouped(8, 2) == [["a", "b"], ["large"]]  # a and b may lie on both nodes
    assert grouped(8, 3) == grouped(16, 1) == [["a", "b", "large"]]


def helping(teachers: int, *, batches: int = 9, room: int = 9, cpus: int = 12, evaluators: int = 6, **changes: Any) -> int:
    """Return how many engines help a teacher, beside which the engine of a student is loaded."""
    wave = [fake(name="s"), fake(**{"name": "t", "role": "teacher"} | changes)]
    sections = {"name": "p", "teacher": {"actors": teachers}, "evaluator": {"actors": evaluators}}
    profile = Profile.model_validate(sections | {"teachers": {"many": {"actors": 4}}})
    loaded = [want(each, profile) for each in wave]
    return helpers(wave[1], loaded, profile, nodes({"CPU": cpus}), batches=batches, room=room)


def test_a_teacher_has_as_many_engines_as_in_candidates() -> None:
    assert [helping(1), helping(2), helping(1, name="many", batches=12)] == [0, 1, 3]
    assert helping(2, role="student") == 0


def test_few_batches_are_not_worth_a_load() -> None:
    assert [helping(4, batches=batches) for batches in (12, 9, 6, 5, 0)] == [3, 2, 1, 0, 0]


def test_an_engine_that_helps_takes_no_room_that_is_not_there() -> None:
    assert [helping(3, evaluators=count) for count in (4, 3, 2)] == [2, 1, 0]
    assert [helping(3, cpus=count) for count in (4, 3, 2)] == [2, 1, 0]
    assert [helping(3, room=count) for count in (2, 1, 0)] == [2, 1, 0]


def test_memory_of_an_engine_is_that_of_this_machine(tmp_path: Path) -> None:
    def taken(folder: str | None, **profile: Any) -> float:
        return gib(fake(folder=folder), Profile.model_validate({"name": "p", "evaluator": {"kv_cache_gib": 0.5}} | profile))

    assert taken(None) == taken("s3://bucket/model") == taken(str(tmp_path)) == ENGINE_GIB + 0.5
    assert taken(str(tmp_path / "gone")) == math.inf  # so nothing helps it
    assert taken(None, ray={"address": "auto"}) == taken(None, evaluator={"gpus": 1}) == 0
