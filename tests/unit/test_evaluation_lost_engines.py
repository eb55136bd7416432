"""Engines of an evaluation that die, as with their node: the model is loaded again, and only one that dies each time fails."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, RayTaskError

from engine.contract.profile import Pool, Profile
from engine.distributed.capacity import of_pool
from engine.distributed.placement import Group
from engine.evaluation import flow
from engine.evaluation.evaluator import EvalTarget, Evaluated
from engine.inference.engine import Completion

DIED = ActorUnavailableError("its node died", b"a" * 16)
FAULT = RayTaskError("evaluate", "Traceback\nengine.errors.ModelError: no weights", ValueError("no weights"))
ROWS = [{"prompt_id": "p"}]


class Engine:
    """An evaluator's actor, of which the method `at` raises `error`; a reference is what returns or raises its result."""

    def __init__(self, at: str, error: Exception | None) -> None:
        self.at, self.error, self.group, self.is_stopped = at, error, None, False
        self.want = of_pool("reports", "a", Pool(cpus=1, resources={"blue": 1}), "evaluator", workers=1)
        self.actor = SimpleNamespace(
            **{name: SimpleNamespace(remote=self._method(name)) for name in ("ready", "time", "answer", "evaluate", "become")}
        )

    def _method(self, name: str) -> Callable[..., Callable[[], Any]]:
        def result() -> Any:
            if self.error and name == self.at:
                raise self.error
            return Evaluated([Completion("yes", "stop", 1, 1)])

        return lambda *args: result

    def stop(self) -> None:
        self.is_stopped = True


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return what evaluates models by the engines that each gets, one after the other; all of them must be stopped."""
    monkeypatch.setattr(flow.ray, "get", lambda reference: reference())
    monkeypatch.setattr(flow.ray, "put", lambda value: value)
    monkeypatch.setattr(flow.ray, "wait", lambda references, **options: (references, []))
    monkeypatch.setattr(flow.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(flow.session, "running_groups", lambda: [Group("n", {"CPU": 9}, 1, 1)])

    def run(alike: bool = False, **engines: list[Engine]) -> list[str]:
        rest = {name: [*each] for name, each in engines.items()}
        monkeypatch.setattr(flow, "_start", lambda target, pool, ledger: rest[target.name].pop(0))
        targets: list[EvalTarget] = [SimpleNamespace(name=name, role="student", model=None, folder=None) for name in engines]  # type: ignore[misc]
        profile = Profile.model_validate({"name": "test", "evaluator": {"actors": 2}})
        call = flow.evaluate_alike if alike else flow.evaluate
        options = {} if alike else {"timed": 1, "progress": lambda line: None}
        found = [each.error or each.completions[0].text for each in call(targets, ROWS, profile, **options)]
        assert not any(rest.values())
        assert all(engine.is_stopped for each in engines.values() for engine in each)
        return found

    return run


@pytest.mark.parametrize(
    ("alike", "at"), [(False, "ready"), (False, "time"), (False, "evaluate"), (True, "ready"), (True, "evaluate")]
)
def test_a_model_whose_engine_died_is_loaded_again(evaluate: Callable[..., Any], alike: bool, at: str) -> None:
    assert evaluate(alike, a=[Engine(at, DIED), Engine(at, DIED), Engine("", None)]) == ["yes"]


def test_the_others_go_on(evaluate: Callable[..., Any]) -> None:
    assert evaluate(a=[Engine("evaluate", DIED), Engine("", None)], b=[Engine("", None)]) == ["yes", "yes"]


def test_a_model_that_dies_each_time_fails(evaluate: Callable[..., Any]) -> None:
    [error] = evaluate(a=[Engine("time", DIED) for _ in range(3)])
    assert "its node died" in error


def test_a_fault_is_a_verdict_at_once(evaluate: Callable[..., Any]) -> None:
    assert evaluate(a=[Engine("ready", FAULT)], b=[Engine("", None)]) == ["no weights", "yes"]


@pytest.mark.parametrize("at", ["", "ready", "answer"])
def test_an_engine_that_helps_may_be_lost(evaluate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    monkeypatch.setattr(flow, "helpers", lambda wave, *_, **__: [1, 0])
    assert evaluate(a=[Engine("", None), Engine(at, DIED)], b=[Engine("", None)]) == ["yes", "yes"]


def test_an_engine_whose_node_was_lost_for_good_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited, said = iter([[], [], ["ready"]]), list[str]()
    nodes = iter([[Group("n", {"CPU": 9, "red": 1}, 1, 1)], [Group("n", {"CPU": 9, "blue": 1}, 1, 1)]])
    monkeypatch.setattr(flow.ray, "wait", lambda references, timeout: (next(waited), []))
    monkeypatch.setattr(flow.ray, "get", lambda reference: reference())
    monkeypatch.setattr(flow.session, "running_groups", lambda: next(nodes))
    engine: Any = Engine("", None)
    assert flow._load(engine, said.append) == ""
    assert said == ["a (evaluator) waits: no node has the resource blue: start nodes with it, or change evaluator.resources"]
