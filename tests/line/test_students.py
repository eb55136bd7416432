"""Students on real Ray Train and real DeepSpeed: side by side, killed and resumed, and loaded by others."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import students_world as world
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.lineage.artifact import Artifact, load_artifact
from engine.rows import STEP
from engine.shards import Folder
from engine.students.progress import FILE, Progress

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every student was trained, all at the same time."""
    folder = tmp_path_factory.mktemp("unbroken")
    world.build(folder)
    world.train(folder, [student.name for student in world.STUDENTS])
    return folder


def artifact(folder: Path, name: str) -> Artifact:
    found = load_artifact(Folder(str(folder / "run" / "students" / name)))
    assert found is not None
    return found


def curve(folder: Path, name: str) -> pa.Table:
    """All of a student's steps but the clock and the student's name."""
    steps = artifact(folder, name).read("steps", STEP)
    return steps.drop_columns(["seconds", "student"])


def test_students_side_by_side_each_becomes_an_artifact(unbroken: Path) -> None:
    for student in world.STUDENTS:
        made = artifact(unbroken, student.name)
        assert made.record["tally"]["rows_out"] == {"trained": world.TRAIN, "validation": world.VALIDATION, "too_long": 1}
        assert made.record["facts"]["layers"] == [0, 2]
        assert made.record["facts"]["source_layers"] == 3
        assert made.record["facts"]["resumed_from"] == []
        assert {"model/model.safetensors", "model/config.json", "model/chat_template.jinja"} <= {
            f["path"] for f in made.record["files"]
        }


def test_students_learn_more_than_they_knew(unbroken: Path) -> None:
    losses = [row["loss"] for row in curve(unbroken, "steady").to_pylist() if row["split"] == "validation"]
    assert min(losses) < 0.7 * losses[0]


def test_zero_stages_give_the_same_losses(unbroken: Path) -> None:
    first = curve(unbroken, "zero0")
    assert curve(unbroken, "zero1").equals(first)
    assert curve(unbroken, "zero2").equals(first)
    third = curve(unbroken, "zero3")  # sums gradients in another order
    assert third["loss"].to_pylist() == pytest.approx(first["loss"].to_pylist(), rel=1e-5)


def test_two_workers_give_the_losses_of_one(unbroken: Path) -> None:
    one, two = curve(unbroken, "zero2"), curve(unbroken, "pair")
    assert one["tokens"].equals(two["tokens"])
    assert one["loss"].to_pylist() == pytest.approx(two["loss"].to_pylist(), rel=1e-4)


def test_patience_that_runs_out_stops_early_and_keeps_the_best(unbroken: Path) -> None:
    facts = artifact(unbroken, "coarse").record["facts"]
    assert facts["stopped_early"]
    assert facts["validation_loss"]["best_step"] == 6  # the first epoch: no later one improves by min_delta
    assert facts["steps"] == 12


def test_exported_student_has_the_best_validation_loss_in_transformers(unbroken: Path) -> None:
    for name in ("steady", "zero3"):
        folder = unbroken / "run" / "students" / name / "model"
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        assert model.config.num_hidden_layers == 2
        best = artifact(unbroken, name).record["facts"]["validation_loss"]["best"]
        assert validation_loss(model, tokenizer) == pytest.approx(best, rel=1e-4)


def validation_loss(model: torch.nn.Module, tokenizer: AutoTokenizer) -> float:
    """The same number without any of our code: one example at a time, labels by transformers."""
    total = weight = 0.0
    for row in world.examples():
        if row["split"] == "validation":
            asked = tokenizer.apply_chat_template(row["messages"], add_generation_prompt=True, return_dict=False)
            said = [*tokenizer(row["target"])["input_ids"], tokenizer.eos_token_id]
            ids, labels = torch.tensor([asked + said]), torch.tensor([[-100] * len(asked) + said])
            with torch.no_grad():
                total += row["weight"] * len(said) * model(input_ids=ids, labels=labels).loss.item()
            weight += row["weight"] * len(said)
    return total / weight


@pytest.fixture
def begun(unbroken: Path, tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen]]:
    """A folder with the same teacher and data, and a driver that has begun to train `steady` in it."""
    shutil.copytree(unbroken / "teacher", tmp_path / "teacher")
    shutil.copytree(unbroken / "run" / "dataset", tmp_path / "run" / "dataset")
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with (tmp_path / "driver.log").open("w") as log:
        driver = subprocess.Popen(
            [sys.executable, world.__file__, str(tmp_path), "steady"],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": paths},
        )
    yield tmp_path, driver
    driver.kill()
    driver.wait()


def wait_for_step(folder: Path, driver: subprocess.Popen, step: int) -> None:
    """Wait until a checkpoint holds the optimizer step `step` or a later one."""
    until = time.monotonic() + 200
    while time.monotonic() < until and driver.poll() is None:
        if saved_step(folder) >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint of step {step}: {(folder / 'driver.log').read_text()[-3000:]}")


def saved_step(folder: Path) -> int:
    """The last optimizer step that a checkpoint of `steady` holds."""
    steps = [0]
    for path in (folder / "run" / "ledger").rglob(FILE):
        with contextlib.suppress(OSError, ValueError):  # half-written, or just replaced by the next one
            steps.append(Progress.read(path.parent).step)
    return max(steps)


def test_killed_worker_and_killed_driver_resume_with_equal_losses(unbroken: Path, begun: tuple[Path, subprocess.Popen]) -> None:
    folder, driver = begun
    wait_for_step(folder, driver, 3)
    workers = [child for child in psutil.Process(driver.pid).children(recursive=True) if "RayTrainWorker" in child.name()]
    assert workers, "the trainer's worker should be a child of the driver"
    for worker in workers:
        worker.kill()
    wait_for_step(folder, driver, saved_step(folder) + 6)  # Ray Train has started another worker, which goes on
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not (folder / "run" / "students" / "steady" / "record.json").exists()

    world.train(folder, ["steady"])

    assert len(artifact(folder, "steady").record["facts"]["resumed_from"]) == 2
    assert curve(folder, "steady").equals(curve(unbroken, "steady"))


def test_finished_training_is_only_read_when_its_artifact_was_lost(unbroken: Path, tmp_path: Path) -> None:
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "run" / "students" / "zero2")
    world.train(tmp_path, ["zero2"])
    assert curve(tmp_path, "zero2").equals(curve(unbroken, "zero2"))
    assert artifact(tmp_path, "zero2").record["facts"]["resumed_from"] == []
