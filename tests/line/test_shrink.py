"""Students that are cut in steps, on real DeepSpeed: killed in each step and resumed, on two workers, and what is written."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import shrink_world as world
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from engine.students.init.prune import parameters
from engine.students.training.checkpoint_state import Progress

ROOT = Path(__file__).parents[2]


def run(folder: Path, name: str = "cut", killed: str = "", ranks: int = 1) -> list[int]:
    """Train in `ranks` processes; return how they ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "PYTHONPATH": str(ROOT), "WORLD_SIZE": str(ranks), "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, world.__file__, str(folder), name, killed]
    started = [subprocess.Popen(command, env={**shared, "RANK": str(rank)}, stderr=subprocess.PIPE) for rank in range(ranks)]
    errors = [each.communicate(timeout=280)[1].decode()[-3000:] for each in started]
    ends = [each.returncode for each in started]
    assert killed or not any(ends), errors
    return ends


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, a dataset, and a student that was cut in three steps."""
    folder = tmp_path_factory.mktemp("shrink")
    world.build(folder)
    run(folder)
    return folder


def progress(folder: Path, name: str = "cut") -> Progress:
    return Progress.read(folder / name / "checkpoint")


def losses(found: Progress) -> list[float]:
    return [entry["loss"] for entry in found.curve]


def test_each_cut_leaves_at_most_its_share_and_the_student_is_what_the_record_says(folder: Path) -> None:
    found = progress(folder)
    assert found.setup is not None and found.setup.shape is not None and not found.phase
    shape, cut = found.setup.shape, found.setup.shape.last
    sizes = [each.parameters for each in shape.cuts]
    assert len(sizes) == 3 and sizes == sorted(sizes, reverse=True) and 0.8 * 60_000 < sizes[-1] <= 60_000
    assert all(each.parameters <= each.target for each in shape.cuts) and shape.recover_steps == 8
    assert len(shape.layer_importance) == 6 and set(shape.layers) <= set(range(6)) and len(shape.layers) == cut.layers
    model = AutoModelForCausalLM.from_pretrained(folder / "cut" / "checkpoint" / "best")
    config = model.config
    assert parameters(model) == found.setup.parameters == cut.parameters
    assert (config.num_attention_heads, config.intermediate_size, config.head_dim) == (cut.heads, cut.intermediate, 8)
    assert [path.name for path in (folder / "cut" / "shrink").iterdir() if any(path.iterdir())] == ["cut-3"]


def test_training_between_the_cuts_lowers_the_loss(folder: Path) -> None:
    setup = progress(folder).setup
    assert setup is not None and setup.shape is not None
    first, second, third = setup.shape.cuts
    assert second.loss_before < first.loss and third.loss_before < second.loss


@pytest.mark.chaos
@pytest.mark.parametrize("killed", ["recovered-1", "recovered-2", "train"])
def test_a_student_killed_in_any_step_ends_with_the_losses_and_weights_of_an_unbroken_one(
    killed: str, folder: Path, tmp_path: Path
) -> None:
    for name in ("teacher", "run"):
        shutil.copytree(folder / name, tmp_path / name)
    assert run(tmp_path, killed=killed) == [9]
    before = {path.name for path in (tmp_path / "cut" / "shrink").iterdir() if any(path.iterdir())}
    assert before == {"recovered-1": {"cut-1"}, "recovered-2": {"cut-2"}, "train": {"cut-3"}}[killed]
    run(tmp_path)
    assert losses(progress(tmp_path)) == losses(progress(folder))
    mine, theirs = (load_file(each / "cut" / "checkpoint" / "best" / "model.safetensors") for each in (tmp_path, folder))
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_two_workers_with_partitioned_weights_cut_the_same_model(folder: Path) -> None:
    run(folder, "pair", ranks=2)
    one, two = progress(folder).setup, progress(folder, "pair").setup
    assert one is not None and two is not None and one.shape is not None and two.shape is not None
    assert two.shape.layers == one.shape.layers and two.shape.last.parameters == one.shape.last.parameters
    assert losses(progress(folder, "pair")) == pytest.approx(losses(progress(folder)), rel=1e-3)
