"""Which models answer the holdout at the same time, and with how many engines."""

from typing import Any

import pytest

from engine.contract.models import FakeModel, VllmModel
from engine.contract.profile import Profile
from engine.contract.specialist import TaskUnit
from engine.distributed.placement import Group
from engine.evaluation.evaluator import EvalTarget, further_batches
from engine.evaluation.waves import helpers, waves

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


VLLM = VllmModel(type="vllm", path="m")


def helping(profile: dict, *, batches: int = 9, free_gib: float = 99.0, has: dict | None = None, **changes: Any) -> list[int]:
    """Return how many engines help a student and a teacher, of two engines in `candidates`, that answer at the same time."""
    wave = [fake(name="s", model=VLLM), fake(**{"name": "t", "role": "teacher", "model": VLLM} | changes)]
    sections = {"name": "p", "teacher": {"actors": 2}, "evaluator": {"actors": 6, "kv_cache_gib": 0.5}} | profile
    groups = nodes(has or {"CPU": 12})
    return helpers(wave, Profile.model_validate(sections), groups, batches=batches, free_gib=free_gib)


def test_a_teacher_has_as_many_engines_as_in_candidates() -> None:
    assert helping({}) == [0, 1]
    assert helping({"teacher": {"actors": 1}}) == [0, 0]
    assert helping({"teachers": {"t": {"actors": 3}}}) == [0, 2]
    assert helping({}, role="student") == helping({}, model=FakeModel(type="fake")) == [0, 0]


def test_few_batches_are_not_worth_a_load() -> None:
    assert helping({"teacher": {"actors": 4}}, batches=9) == [0, 2]
    assert helping({}, batches=5) == [0, 0]
    assert further_batches(700, 16, 96) == 7 and further_batches(60, 16, 96) == 0 and further_batches(3, 16, 96) == 0


def test_an_engine_that_helps_takes_no_room_that_is_not_there() -> None:
    assert helping({"evaluator": {"actors": 2}}) == [0, 0]
    assert helping({}, has={"CPU": 2}) == [0, 0]
    assert helping({}, free_gib=5.9) == [0, 0] and helping({}, free_gib=6.1) == [0, 1]  # 2 GiB each
    on_nodes = {"ray": {"address": "auto"}}  # the memory of this machine says nothing of them
    assert helping(on_nodes, free_gib=1.0) == [0, 1]
