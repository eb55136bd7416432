"""What becomes of a model whose evaluator fails."""

from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from engine.contract.models import EndpointModel, FakeModel
from engine.contract.profile import Profile
from engine.distributed.placement import Group
from engine.errors import ModelError, StoreUnreachable
from engine.evaluation import flow
from engine.evaluation.evaluator import EvalTarget

TARGETS = [EvalTarget("a", "baseline", FakeModel(type="fake"), {})]
ROWS = [{"prompt_id": "x"}, {"prompt_id": "y"}]
CALLS = ("ready", "time", "evaluate")


class Actor:
    """A handle of an evaluator of which the call `fails` raises an error."""

    def __init__(self, fails, error):
        for name in (*CALLS, "become"):
            setattr(self, name, SimpleNamespace(remote=lambda *_, name=name: error if name == fails else None))


def as_ray_raises(cause, *, in_constructor):
    """Return what `ray.get` raises: of a constructor's error it keeps the text alone."""
    traceback = f"ray::Evaluator() (pid=7)\n  File x, line 1\nengine.errors.{type(cause).__name__}: {cause}"
    error = RayTaskError("Evaluator", traceback, cause)
    return ActorDiedError.from_task_error(error) if in_constructor else error.as_instanceof_cause()


@pytest.fixture
def evaluations(monkeypatch):
    """Functions that evaluate `targets` with an actor whose call `fails` raises `cause`."""

    def get(answer):
        if isinstance(answer, Exception):
            raise answer
        return answer

    def made(fails, cause, targets=TARGETS):
        error = as_ray_raises(cause, in_constructor=fails == "ready")
        ray = SimpleNamespace(
            is_initialized=lambda: True, put=lambda rows: rows, get=get, wait=lambda references, timeout: (references, [])
        )
        monkeypatch.setattr(flow, "ray", ray)
        monkeypatch.setattr(flow.session, "running_groups", lambda: [Group("n", {"CPU": 8}, 1, 1)])
        started = SimpleNamespace(actor=Actor(fails, error), stop=lambda: None)
        monkeypatch.setattr(flow, "start", lambda *_: started)
        yield lambda: list(flow.evaluate(targets, ROWS, Profile(name="p"), timed=1, progress=lambda line: None))
        if fails != "time":  # alike, nothing is timed
            yield lambda: flow.evaluate_alike(targets, ROWS, Profile(name="p"))

    return made


@pytest.mark.parametrize("fails", CALLS)
def test_a_store_that_cannot_be_reached_is_no_verdict_on_a_model(fails, evaluations):
    for evaluated in evaluations(fails, StoreUnreachable("s3://b/x: the store cannot be reached.")):
        with pytest.raises(StoreUnreachable, match=r"^s3://b/x: the store cannot be reached\.$"):
            evaluated()


@pytest.mark.parametrize("fails", CALLS)
def test_a_model_that_fails_is_one(fails, evaluations):
    for evaluated in evaluations(fails, ModelError("no weights")):
        (found,) = evaluated()
        assert found.error == "no weights" and [each.finish_reason for each in found.completions] == ["error", "error"]


@pytest.mark.parametrize("fails", CALLS)
def test_a_server_that_answers_nothing_is_no_verdict_on_its_model(fails, evaluations):
    server = EvalTarget("a", "teacher", EndpointModel(type="endpoint", url="http://h/v1", path="m"), {})
    words = "http://h/v1, model 'm': the server answered none of 4 requests. It says: 503 gone\nCheck that it is up."
    for evaluated in evaluations(fails, ModelError(words), [server]):
        with pytest.raises(ModelError) as stop:
            evaluated()
        assert str(stop.value) == words
