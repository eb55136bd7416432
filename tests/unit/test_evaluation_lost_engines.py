"""Engines of an evaluation that die, as with their node: the model is loaded again, and only one that dies each time fails."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.exceptions import ActorUnavailableError, RayTaskError

from engine.contract.models import FakeModel
from engine.contract.profile import Pool, Profile
from engine.distributed.capacity import of_pool
from engine.distributed.placement import Group
from engine.errors import StoreUnreachable
from engine.evaluation import flow
from engine.evaluation.evaluator import EvalTarget, Evaluated
from engine.inference.engine import Completion

DIED = ActorUnavailableError("its node died", b"a" * 16)
FAULT = RayTaskError("evaluate", "Traceback\nengine.errors.ModelError: no weights", ValueError("no weights"))
AWAY = RayTaskError("time", "engine.errors.StoreUnreachable: s3 is away", OSError())
ROWS = [{"prompt_id": "p"}]


class Engine:
    """An evaluator's actor, of which the method `at` raises `error`, or never ends without one; a reference is what returns or
    raises its result."""

    def __init__(self, at: str = "", error: Exception | None = None) -> None:
        self.at, self.error, self.group, self.is_stopped = at, error, None, False
        self.want = of_pool("reports", "a", Pool(cpus=1, resources={"blue": 1}), "evaluator", workers=1)
        self.calls: list[tuple[Any, ...]] = []
        self.left = 9
        methods = ("ready", "time", "batches_left", "answer", "evaluate", "become")
        self.actor = SimpleNamespace(**{name: SimpleNamespace(remote=self._method(name)) for name in methods})

    def _method(self, name: str) -> Callable[..., Callable[[], Any]]:
        def result() -> Any:
            if self.error and name == self.at:
                raise self.error
            return self.left if name == "batches_left" else Evaluated([Completion("yes", "stop", 1, 1)])

        def remote(*args: Any) -> Callable[[], Any]:
            self.calls.append((name, *args[2:]))
            reference = lambda: result()  # noqa: E731 - each call is another reference
            if self.at == name and self.error is None:
                NEVER.append(reference)
            return reference

        return remote

    def stop(self) -> None:
        self.is_stopped = True


NEVER: list[Any] = []  # references that are never ready


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return what evaluates models by the engines that each gets, one after the other; all of them must be stopped."""
    monkeypatch.setattr(flow.ray, "get", lambda reference: reference())
    monkeypatch.setattr(flow.ray, "put", lambda value: value)
    monkeypatch.setattr(flow.ray, "wait", lambda references, **_: ([each for each in references if each not in NEVER], []))
    monkeypatch.setattr(flow.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(flow.session, "running_groups", lambda: [Group("n", {"CPU": 9, "blue": 9}, 1, 1)])

    def run(
        alike: bool = False,
        teacher: str = "",
        free: float = 99.0,
        begin: Callable[[], None] = lambda: None,
        begun: str = "",
        most: int = 4,
        **engines: list[Engine],
    ) -> list[str]:
        rest = {name: [*each] for name, each in engines.items()}

        def start(target: EvalTarget, *_: Any) -> Engine:
            begin()
            return rest[target.name].pop(0)

        monkeypatch.setattr(flow, "start", start)
        monkeypatch.setattr(flow, "free_gib", lambda: free)
        names: Any = [(name, "teacher" if name in teacher else "student") for name in engines]
        targets: Any = [SimpleNamespace(name=name, role=role, model=FakeModel(type="fake"), folder=None) for name, role in names]
        profile = Profile.model_validate({"name": "test", "teacher": {"actors": 2}, "evaluator": {"actors": most}})
        call = flow.evaluate_alike if alike else flow.evaluate
        options: Any = {} if alike else {"timed": 1, "progress": lambda line: None}
        kept = flow.Kept(cast(Any, object()), {name: cast(Any, rest[name].pop(0)) for name in begun})
        options |= {} if alike else {"kept": kept}
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


def parts(engine: Engine) -> list[tuple[int, int]]:
    return [(part, count) for name, *rest in engine.calls if name == "answer" for part, count in [rest]]


def test_an_engine_that_helps_answers_a_part(evaluate: Callable[..., Any]) -> None:
    own, helper, other = Engine(), Engine("answer", DIED), Engine()  # what one that died has left, `evaluate` answers
    assert evaluate(teacher="a", a=[own, helper], b=[other]) == ["yes", "yes"]
    assert (parts(own), parts(helper), parts(other)) == ([(0, 2)], [(1, 2)], [])
    assert [name for name, *_ in own.calls] == ["ready", "batches_left", "time", "answer", "evaluate"]
    assert [name for name, *_ in helper.calls] == ["ready", "answer"]


@pytest.mark.parametrize(
    "error", [DIED, None, RayTaskError("ready", f"{StoreUnreachable.__module__}.StoreUnreachable: s3", OSError())]
)
def test_an_engine_that_helps_and_does_not_load_is_not_waited_for(evaluate: Callable[..., Any], error: Exception | None) -> None:
    own, helper = Engine(), Engine("ready", error)
    assert evaluate(teacher="a", a=[own, helper]) == ["yes"]
    assert helper.is_stopped and not parts(own) and not parts(helper)


def test_an_engine_that_helps_leaves_its_place_to_one_that_is_loaded_again(evaluate: Callable[..., Any]) -> None:
    own, helper, again = Engine("evaluate", DIED), Engine(), Engine()
    stopped: list[bool] = []
    assert evaluate(teacher="a", begin=lambda: stopped.append(helper.is_stopped), a=[own, helper, again]) == ["yes"]
    assert stopped == [False, False, True] and not parts(again)


def test_engines_that_help_leave_their_places_to_any_model(evaluate: Callable[..., Any]) -> None:
    own, again, other, helper = Engine("evaluate", DIED), Engine(), Engine(), Engine()
    own.left = 0  # nothing for another engine to do
    stopped: list[bool] = []
    begin = lambda: stopped.append(helper.is_stopped and other.is_stopped)  # noqa: E731
    assert evaluate(teacher="ab", begin=begin, a=[own, again], b=[other, helper]) == ["yes", "yes"]
    assert stopped == [False, False, False, True]


def test_memory_that_one_teacher_gets_is_not_given_again(evaluate: Callable[..., Any]) -> None:
    """An engine takes 2.5 GiB, and one is kept for those that answer."""
    for free, helped in ((3.4, 0), (3.6, 1), (6.1, 2)):
        a, b = [Engine() for _ in range(1 + (helped > 0))], [Engine() for _ in range(1 + (helped > 1))]
        assert evaluate(teacher="ab", free=free, a=a, b=b) == ["yes", "yes"]


def test_engines_are_stopped_where_the_evaluation_fails(evaluate: Callable[..., Any]) -> None:
    engines = [Engine("time", AWAY), Engine()]
    with pytest.raises(StoreUnreachable, match="s3 is away"):
        evaluate(teacher="a", a=engines)
    assert all(engine.is_stopped for engine in engines)


def test_engines_that_have_begun_are_not_started_again(evaluate: Callable[..., Any]) -> None:
    own, other, started = Engine(), Engine(), list[int]()
    own.left = 0
    assert evaluate(teacher="a", begun="a", begin=lambda: started.append(1), a=[own], b=[other]) == ["yes", "yes"]
    assert started == [1] and [name for name, *_ in own.calls] == ["ready", "batches_left", "time", "evaluate"]
    assert evaluate(teacher="a", begun="a", a=[Engine("ready", DIED), Engine()]) == ["yes"]  # its node was lost meanwhile


def test_an_engine_that_has_begun_and_whose_turn_is_later_leaves_its_place(evaluate: Callable[..., Any]) -> None:
    ahead, stopped = Engine(), list[bool]()
    begin = lambda: stopped.append(ahead.is_stopped)  # noqa: E731
    assert evaluate(begun="b", most=1, begin=begin, a=[Engine()], b=[ahead, Engine()]) == ["yes", "yes"]
    assert stopped == [True, True] and not ahead.calls


def test_an_engine_whose_node_was_lost_for_good_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited, said = iter([[], [], ["ready"]]), list[str]()
    nodes = iter([[Group("n", {"CPU": 9, "red": 1}, 1, 1)], [Group("n", {"CPU": 9, "blue": 1}, 1, 1)]])
    monkeypatch.setattr(flow.ray, "wait", lambda references, timeout: (next(waited), []))
    monkeypatch.setattr(flow.ray, "get", lambda reference: reference())
    monkeypatch.setattr(flow.session, "running_groups", lambda: next(nodes))
    engine: Any = Engine("", None)
    assert flow._load(engine, said.append, EvalTarget("a", "student", FakeModel(type="fake"), {})) == ""
    assert said == ["a (evaluator) waits: no node has the resource blue: start nodes with it, or change evaluator.resources"]
