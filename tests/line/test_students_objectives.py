"""Each objective on DeepSpeed: it learns, and a training that is interrupted goes on with bit-equal losses."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import objectives_world as world
import pytest
import students_world
from safetensors.torch import load_file

from engine.students.training.checkpoint_state import Progress

ROOT = Path(__file__).parents[2]
NAMES = [each.name for each in world.STUDENTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all students were trained, each without a break and with breaks."""
    folder = tmp_path_factory.mktemp("objectives")
    students_world.build(folder)
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command, env = [sys.executable, world.__file__, str(folder)], {**os.environ, "PYTHONPATH": paths}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return folder


def progress(folder: Path, kind: str, name: str) -> Progress:
    return Progress.read(folder / kind / name)


def curve(found: Progress) -> list[tuple]:
    return [(row["step"], row["split"], row["loss"], row["parts"]) for row in found.curve]


@pytest.mark.parametrize("name", NAMES)
def test_interrupted_training_goes_on_with_equal_losses_to_the_bit(folder: Path, name: str) -> None:
    broken = progress(folder, "broken", name)
    assert curve(broken) == curve(progress(folder, "alone", name))
    assert broken.resumed_from == [world.ENDS[name][0] // 4 * 4]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_optimised_falls_on_unseen_examples(folder: Path, name: str) -> None:
    validation = [row["loss"] for row in progress(folder, "alone", name).curve if row["split"] == "validation"]
    assert len(validation) == 3 and np.isfinite(validation).all()
    assert min(validation) < validation[0]


@pytest.mark.parametrize("name", ["kl", "uld", "dpo", "simpo", "hidden"])
def test_parts_of_the_loss_add_up_to_it(folder: Path, name: str) -> None:
    for row in progress(folder, "alone", name).curve:
        assert sum(part["loss"] for part in row["parts"]) == pytest.approx(row["loss"], rel=1e-5)
        assert row["parts"][0]["objective"] == "sft"


def test_a_dpo_training_begins_at_the_log_of_two_and_its_reference_stays(folder: Path) -> None:
    found = progress(folder, "alone", "dpo_alone")
    assert found.curve[0]["loss"] == pytest.approx(np.log(2), rel=1e-4)
    references = [np.load(folder / kind / "dpo_alone" / "reference.npz") for kind in ("alone", "broken")]
    for split in ("train", "validation"):
        assert (references[0][split] == references[1][split]).all() and (references[0][split] < 0).all()


def test_pairs_are_audited(folder: Path) -> None:
    setup = progress(folder, "alone", "dpo").setup
    assert setup is not None
    train = setup.preferences["train"]
    assert (train.pairs, train.equal, train.too_long, train.margin) == (15, 1, 0, 0.5)


def test_the_exported_model_has_the_students_weights_alone(folder: Path) -> None:
    names = set(load_file(folder / "alone" / "hidden" / "best" / "model.safetensors"))
    assert names and not any(name.startswith(("projections", "source")) for name in names)
