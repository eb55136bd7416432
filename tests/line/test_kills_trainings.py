"""`make chaos`: the training of each objective ended at ten random moments, and gone on with by another number of workers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import objectives_world as world
import pytest
import students_world
import torch
from safetensors.torch import load_file

from engine.students.training.checkpoint_state import Progress

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]
NAMES = [each.name for each in world.LONGER]


def start(folder: Path, *words: str) -> subprocess.Popen:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, world.__file__, str(folder), *words]
    with (folder / f"log-{'-'.join(words[:3])}").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": paths})


def finish(folder: Path, *started: subprocess.Popen) -> None:
    try:
        codes = [each.wait(timeout=1500) for each in started]
    finally:
        for each in started:
            each.kill()
    assert not any(codes), [log.read_text()[-3000:] for log in sorted(folder.glob("log-*"))]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    students_world.build(folder)
    return folder


@pytest.fixture(scope="module", params=NAMES)
def trained(request: pytest.FixtureRequest, root: Path) -> tuple[Path, str]:
    """A folder, and the name of the student that was trained in it without a break and with kills."""
    finish(root, start(root, "killed", request.param))
    return root, request.param


def curve(checkpoint: Path) -> list[tuple]:
    return [(row["step"], row["split"], row["loss"], row["parts"]) for row in Progress.read(checkpoint).curve]


def test_ten_kills_leave_the_losses_and_weights_of_an_unbroken_training(trained: tuple[Path, str]) -> None:
    folder, name = trained
    assert json.loads((folder / f"killed-{name}.json").read_text()) == world.KILLS
    broken, whole = folder / "killed" / name, folder / "alone" / name
    assert Progress.read(broken).resumed_from and curve(broken) == curve(whole)
    weights = [load_file(each / "best" / "model.safetensors") for each in (whole, broken)]
    assert weights[0] and all(torch.equal(tensor, weights[1][key]) for key, tensor in weights[0].items())


def test_two_workers_go_on_with_the_losses_of_one(trained: tuple[Path, str]) -> None:
    folder, name = trained
    port, target = str(students_world.free_port()), f"two-{name}"
    finish(folder, *(start(folder, "shared", name, str(rank), "2", port, target, f"alone/{name}-4") for rank in range(2)))
    two, one = Progress.read(folder / target), Progress.read(folder / "alone" / name)
    expected = [row["loss"] for row in one.curve if row["step"] <= world.STOP]
    assert [row["loss"] for row in two.curve] == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert two.step == world.STOP and [(change.before, change.after) for change in two.resized] == [(1, 2)]
