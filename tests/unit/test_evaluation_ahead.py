"""Which teachers answer the holdout while students train."""

from typing import Any

import pytest

from engine.contract.models import FakeModel
from engine.contract.profile import Profile
from engine.contract.specialist import TaskUnit
from engine.distributed.capacity import of_pool
from engine.distributed.placement import Group
from engine.evaluation import ahead
from engine.evaluation.ahead import KEPT_GIB, fitting
from engine.evaluation.evaluator import EvalTarget
from engine.inference.room import ENGINE_GIB

UNIT = TaskUnit.model_validate({"name": "echo", "kind": "rewrite", "instruction": "Repeat."})


def chosen(
    monkeypatch: pytest.MonkeyPatch, *, cpus: float = 9, free: float = 99.0, trainings: int = 2, **sections: Any
) -> list[str]:
    """Return which of the teachers a, b and c are begun beside `trainings` of a CPU each."""
    profile = Profile.model_validate({"name": "p", "evaluator": {"actors": 6, "kv_cache_gib": 0.5}} | sections)

    def groups(*, free: bool) -> list[Group]:
        assert free, "others may hold places of a cluster"
        return [Group("n", {"CPU": cpus}, 1, 1)]

    monkeypatch.setattr(ahead.session, "running_groups", groups)
    monkeypatch.setattr(ahead.session, "is_running", lambda: True)
    monkeypatch.setattr(ahead, "free_gib", lambda: free)
    targets = [EvalTarget(name=name, role="teacher", model=FakeModel(type="fake"), units={"echo": UNIT}) for name in "abc"]
    beside = [of_pool("students/s", "s", profile.trainer, "trainer", workers=trainings)]
    return [target.name for target in fitting(targets, profile, beside)]


def test_teachers_take_no_place_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [len(chosen(monkeypatch, cpus=cpus)) for cpus in (5, 4, 3, 2, 1)] == [3, 2, 1, 0, 0]
    assert chosen(monkeypatch, evaluators={"a": {"cpus": 8}}) == ["b", "c"]
    assert chosen(monkeypatch, evaluator={"actors": 2}) == ["a", "b"]


def test_memory_of_this_machine_is_kept_for_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, engine = 2 * KEPT_GIB, ENGINE_GIB + 0.5
    assert [len(chosen(monkeypatch, free=kept + part * engine)) for part in (0.9, 1.1, 2.1)] == [0, 1, 2]
    assert chosen(monkeypatch, free=1.0, ray={"address": "auto"}) == ["a", "b", "c"]  # their nodes have memory of their own
