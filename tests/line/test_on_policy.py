"""On-policy rounds of a tiny real model: what is optimised rises over three seeds, and an interrupted run has the same weights."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import on_policy_world as world
import pytest
import students_world
import torch
from safetensors.torch import load_file

from engine.records.on_policy import OnPolicyMetrics

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.modes, pytest.mark.timeout(1100)]  # two minutes of a core


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all runs were done."""
    folder = tmp_path_factory.mktemp("rounds")
    students_world.build(folder)
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command, env = [sys.executable, world.__file__, str(folder)], {**os.environ, "PYTHONPATH": paths}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1000)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return folder


def result(folder: Path, name: str, kind: str = "whole") -> Any:
    return json.loads((folder / f"{kind}-{name}.json").read_text())


def metrics(folder: Path, name: str, kind: str = "whole") -> OnPolicyMetrics:
    return OnPolicyMetrics.model_validate(result(folder, name, kind)["metrics"])


@pytest.mark.parametrize("objective", ["grpo", "kl"])
def test_what_is_optimised_rises_over_three_seeds_and_the_held_out_check_does_not_fall(folder: Path, objective: str) -> None:
    runs = [f"{objective}{seed}" for seed in range(3)]
    every = [metrics(folder, name) for name in runs]
    for found in every:
        assert found.ended_by == "rounds" and found.kept == len(found.rounds), found.why
        first, *_, last = found.rounds
        if objective == "grpo":
            assert last.score is not None and first.score is not None and last.score > first.score
        else:
            assert last.loss is not None and first.loss is not None and last.loss < 0.9 * first.loss  # the divergence
    before, after = np.asarray([result(folder, name)["held_out"] for name in runs]).T
    assert after.mean() > before.mean() and (after > before - 0.05).all()


@pytest.mark.parametrize("name", ["ahead", "ahead_kl"])
def test_samples_that_are_a_round_old_are_learned_with_the_probabilities_of_their_drawing(folder: Path, name: str) -> None:
    found = metrics(folder, name)
    assert found.ended_by == "rounds" and found.kept == len(found.rounds), found.why
    before, after = result(folder, name)["held_out"]
    assert after > before
    off_policy = result(folder, name)["off_policy"]
    assert len(off_policy) == (len(found.rounds) - 1 if name == "ahead" else 0)  # the divergence has no ratio
    assert all(of_drawing < 1e-3 < of_now for of_drawing, of_now in off_policy)


@pytest.mark.parametrize("name", world.BROKEN)
def test_a_run_with_ten_kills_samples_and_scores_nothing_twice_but_its_batch_and_has_the_same_weights(
    folder: Path, name: str
) -> None:
    whole, broken = (result(folder, name, kind) for kind in ("whole", "broken"))
    kills = len(world.BROKEN[name])
    assert kills == 10 and broken["attempts"] == kills + 1
    for kind in ("sampled", "scored"):
        assert broken[kind] - whole[kind] <= kills * world.POOL.batch * world.COMMON["samples"]
    weights = [load_file(Path(each["model"]) / "model.safetensors") for each in (whole, broken)]
    assert weights[0] and all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    times = {"rounds": {"__all__": {"seconds"}}}
    assert metrics(folder, name).model_dump(exclude=times) == metrics(folder, name, "broken").model_dump(exclude=times)


def test_rounds_go_on_with_float32_weights_and_the_moments_of_the_optimizer(folder: Path) -> None:
    """A second round whose optimizer began anew would have taken other steps: its first one would be counted as the first."""
    stored = load_file(folder / "whole" / "held" / "round-2" / "checkpoint" / "state-00000.safetensors")
    assert float(stored["step"]) == 16 and stored["weight.model.model.norm.weight"].dtype == torch.float32
