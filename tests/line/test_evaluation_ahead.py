"""A teacher that answers the holdout before the report, on Ray: the same answers, each asked for once, and none that is timed."""

import time
from pathlib import Path
from typing import Any

import pytest
import ray

from engine.contract.models import FakeModel
from engine.contract.profile import Profile
from engine.evaluation.ahead import Ahead
from engine.evaluation.answers import EvalLedger
from engine.evaluation.evaluator import EvalTarget
from engine.evaluation.flow import Kept, evaluate
from engine.storage.folder import Folder
from tests.line.test_evaluation_helpers import ROWS, UNIT, asked, texts


def profile_of(**ray_section: Any) -> Profile:
    return Profile.model_validate({"name": "p", "ray": ray_section, "evaluator": {"actors": 4, "batch": 3, "cpus": 0.5}})


def begun(folder: Path, target: EvalTarget, profile: Profile) -> Ahead:
    ahead = Ahead(ROWS, profile, ledger(folder), timed=2)
    ahead.begin(target)
    return ahead


def ledger(folder: Path) -> EvalLedger:
    return EvalLedger(rows=Folder(f"{folder}/paid"), own=Folder(f"{folder}/own"))


def answered(folder: Path) -> int:
    return sum(asked(folder)) if (folder / "own/evaluation_tokens").exists() else 0


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("at_least", [0, 1, 25])
def test_a_teacher_goes_on_where_it_was(tmp_path: Path, at_least: int) -> None:
    target, profile = EvalTarget(name="t", role="teacher", model=FakeModel(type="fake"), units={"echo": UNIT}), profile_of()
    [alone] = evaluate([target], ROWS, profile, timed=2, progress=lambda line: None, kept=Kept(ledger(tmp_path / "alone")))
    folder = tmp_path / "ahead"
    ahead = begun(folder, target, profile)
    while answered(folder) < at_least:  # 25: all but 2 alone and a batch of 3, which are timed
        time.sleep(0.05)
    kept = ahead.take()
    [found] = evaluate([target], ROWS, profile, timed=2, progress=lambda line: None, kept=kept)
    assert texts(found) == texts(alone) and sorted(found.seconds) == sorted(alone.seconds) == [0, 15]
    assert asked(folder) == [30]  # by one engine


@pytest.mark.usefixtures("cluster")
def test_an_engine_that_others_may_wait_for_is_given_back_at_the_end(tmp_path: Path) -> None:
    target = EvalTarget(name="t", role="teacher", model=FakeModel(type="fake"), units={"echo": UNIT})
    ahead = begun(tmp_path, target, profile_of(address="auto"))
    actor = ahead.engines["t"].actor
    with pytest.raises(ray.exceptions.RayActorError):
        while True:
            ray.get(actor.ready.remote())
            time.sleep(0.05)
    assert ahead.take().engines == {} and asked(tmp_path) == [25]
