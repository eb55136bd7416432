"""Workers that are lost with their nodes: a training is tried again as long as it gets further in between."""

import json
from pathlib import Path
from typing import Any

import pytest
import ray.exceptions
from ray.train import Checkpoint, ControllerError, FailureConfig, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError, WorkerHealthCheckFailedError
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision

from engine.contract.profile import Pool
from engine.students.training import launch
from engine.students.training.launch import CheckpointLocation, Planned

GONE = ray.exceptions.ActorUnavailableError("its node died", b"a" * 16)
LOST = WorkerGroupError("lost", {0: GONE, 1: WorkerHealthCheckFailedError("it does not answer", GONE)})
LOST_AT_START = ControllerError(ray.exceptions.ActorUnavailableError("its node died", b"b" * 16))
FAULT = WorkerGroupError("fault", {0: ValueError("a fault of the loop")})


class Spec:
    title = "s"


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what trains by attempts: the step that each reaches, and how it ends."""
    plan = Planned(Spec(), CheckpointLocation(str(tmp_path), "training"))  # type: ignore[arg-type]

    def run(*attempts: tuple[int, Exception | None]) -> int:
        rest = list(attempts)

        def attempt(plan: Planned, pool: Pool) -> Checkpoint:
            step, end = rest.pop(0)
            (tmp_path / "training").mkdir(exist_ok=True)
            content = {"step": step, "steps": 100, "tokens": 1, "loss": 1.0, "best": None}
            (tmp_path / "training" / "snapshot.json").write_text(json.dumps(content))
            if end:
                raise end
            return Checkpoint(str(tmp_path))

        monkeypatch.setattr(launch, "_attempt", attempt)
        launch._fit(plan, Pool())
        return len(rest)

    return run


def test_a_training_goes_on_while_it_gets_further(train: Any) -> None:
    assert train((5, LOST), (9, LOST), (40, LOST), (100, None)) == 0


def test_a_training_that_gets_no_further_ends(train: Any) -> None:
    with pytest.raises(WorkerGroupError, match="lost"):
        train((5, LOST), (9, LOST), (9, LOST), (100, None))


def test_a_fault_of_the_loop_ends_it(train: Any) -> None:
    with pytest.raises(WorkerGroupError, match="fault"):
        train((5, LOST), (9, FAULT), (100, None))


def test_a_training_whose_workers_were_lost_while_they_started_is_begun_again(train: Any) -> None:
    assert train((5, LOST), (5, LOST_AT_START), (40, LOST_AT_START), (40, LOST_AT_START), (100, None)) == 0
    with pytest.raises(ControllerError, match="its node died"):
        train((5, LOST), (5, LOST_AT_START), (5, LOST_AT_START), (100, None))


def test_a_training_that_lost_what_leads_it_is_begun_again(train: Any) -> None:
    assert train((5, LOST), (5, ray.exceptions.ActorDiedError()), (100, None)) == 0


def test_a_fault_while_workers_start_ends_it(train: Any) -> None:
    with pytest.raises(ControllerError, match="a fault"):
        train((5, LOST), (9, ControllerError(ValueError("a fault"))), (100, None))


def test_a_training_that_finds_no_room_waits_on() -> None:
    """Ray Train counts these apart from the failures of workers, without a limit by default; `launch.at_once` says so."""
    policy, waited = DefaultFailurePolicy(FailureConfig(max_failures=launch.RETRIES)), WorkerGroupStartupTimeoutError(2)
    assert {policy.make_decision(ControllerError(waited)) for _ in range(50)} == {FailureDecision.RETRY}
