"""Students on real Ray Train and DeepSpeed: trained at the same time, killed and resumed, loaded by transformers."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import students_world as world
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.records.student import StudentMetrics
from engine.rows import STEP
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.folder import Folder
from engine.students.training.checkpoint_state import Progress

ROOT = Path(__file__).parents[2]
TOGETHER = ["pair", "steady"]
ALONE = ["zero0", "zero1", "zero2", "zero3", "packed", "coarse", "exact", "exact3"]


def script(mode: str, folder: Path, names: list[str]) -> subprocess.Popen:
    """Start the script of `students_world`; its output goes to `folder`/driver.log."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with (folder / "driver.log").open("w") as log:
        command = [sys.executable, world.__file__, mode, str(folder), *names]
        return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": paths})


def output(folder: Path) -> str:
    """The end of the script's output."""
    return (folder / "driver.log").read_text()[-3000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher and a dataset."""
    folder = tmp_path_factory.mktemp("students")
    world.build(folder)
    return folder


@pytest.fixture(scope="module")
def unbroken(folder: Path, cluster: None) -> Path:
    """The folder in which two students were trained at the same time."""
    world.train(folder, TOGETHER)
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Progress]:
    """The final progress of students that were trained without Ray."""
    driver = script("loop", folder, ALONE)
    assert driver.wait(timeout=300) == 0, output(folder)
    return {name: Progress.read(folder / "alone" / name) for name in ALONE}


def artifact(folder: Path, name: str) -> Artifact:
    loaded = load_artifact(Folder(str(folder / "run" / "students" / name)))
    assert loaded is not None
    return loaded


def curve(folder: Path, name: str, *, seed: int = 0) -> pa.Table:
    """All steps of a student's training without the column of times."""
    return artifact(folder, name).read("steps", STEP).filter(pc.field("seed") == seed).drop_columns(["seconds"])


def losses(progress: Progress) -> list[float]:
    return [entry["loss"] for entry in progress.curve]


def test_students_side_by_side_each_becomes_an_artifact(unbroken: Path) -> None:
    for name in TOGETHER:
        student = artifact(unbroken, name)
        assert student.record.row_counts.rows_out == {"trained": world.TRAIN, "validation": world.VALIDATION, "too_long": 1}
        metrics = student.metrics(StudentMetrics)
        assert (metrics.layers, metrics.source_layers, metrics.resumed_from) == ([0, 2], 3, [])
        files = {file.path for file in student.record.files}
        assert {"model/model.safetensors", "model/config.json", "model/chat_template.jinja"} <= files


def test_student_learns_to_copy(unbroken: Path) -> None:
    validation = [row["loss"] for row in curve(unbroken, "steady").to_pylist() if row["split"] == "validation"]
    assert min(validation) < 0.7 * validation[0]


def test_frozen_layers_stay_those_of_the_source_and_the_others_learn(unbroken: Path) -> None:
    source = load_file(unbroken / "teacher" / "model.safetensors")
    student = load_file(unbroken / "run" / "students" / "steady" / "model" / "model.safetensors")
    for kept, old in ((0, 0), (1, 2)):  # layer of the student, the source's layer that it was
        name = "model.layers.{}.mlp.up_proj.weight"
        assert bool((student[name.format(kept)] == source[name.format(old)]).all()) is (kept == 0)


def test_zero_stages_and_packed_rows_give_the_same_losses(alone: dict[str, Progress]) -> None:
    for name in ("zero1", "zero2", "zero3", "packed"):  # equal but for the order of float32 sums
        assert losses(alone[name]) == pytest.approx(losses(alone["zero0"]), rel=1e-5), name


def test_two_workers_on_ray_give_the_losses_of_one_without(unbroken: Path, alone: dict[str, Progress]) -> None:
    assert curve(unbroken, "pair")["loss"].to_pylist() == pytest.approx(losses(alone["zero2"]), rel=1e-4)


def test_interrupted_training_has_the_metric_and_the_decay_of_an_unbroken_one(folder: Path, alone: dict[str, Progress]) -> None:
    broken, whole = Progress.read(folder / "broken" / "exact"), alone["exact"]
    assert len(broken.resumed_from) == 2 and whole.decay_start and whole.ended_by == "early_stop"
    times = {"seconds", "resumed_from", "curve"}
    assert broken.model_dump(exclude=times) == whole.model_dump(exclude=times)
    assert [{**row, "seconds": 0} for row in broken.curve] == [{**row, "seconds": 0} for row in whole.curve]
    weights = [load_file(folder / kind / "exact" / "best" / "model.safetensors") for kind in ("alone", "broken")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_exact_match_of_partitioned_weights_is_that_of_whole_ones(alone: dict[str, Progress]) -> None:
    metrics = [[row["metric"] for row in alone[name].curve if row["split"] == "validation"] for name in ("exact", "exact3")]
    assert metrics[0] == metrics[1] and any(metrics[0])


def test_seeds_are_trained_apart_and_the_best_is_exported(unbroken: Path) -> None:
    pair = artifact(unbroken, "pair")
    metrics = pair.metrics(StudentMetrics)
    assert [each.seed for each in metrics.seeds] == [0, 1] and metrics.seed in (0, 1)
    assert metrics.spread["loss"].sd > 0 and metrics.seeds[0].served is not None
    other = load_file(unbroken / "run" / "students" / "pair" / "seeds" / str(1 - metrics.seed) / "model" / "model.safetensors")
    best = load_file(unbroken / "run" / "students" / "pair" / "model" / "model.safetensors")
    assert not all(torch.equal(tensor, other[name]) for name, tensor in best.items())


def test_patience_that_runs_out_stops_early_and_keeps_the_best(alone: dict[str, Progress]) -> None:
    coarse = alone["coarse"]  # no epoch after the first improves by its min_delta
    assert coarse.stopped_early
    assert (coarse.best_step, coarse.step) == (6, 12)


@pytest.mark.parametrize("mode", ["zero0", "zero3", "pair"])
def test_exported_student_has_the_best_validation_loss_in_transformers(
    mode: str, folder: Path, unbroken: Path, alone: dict[str, Progress]
) -> None:
    if mode in alone:
        where, best = folder / "alone" / mode / "best", alone[mode].best
    else:
        where, best = (
            unbroken / "run" / "students" / mode / "model",
            artifact(unbroken, mode).metrics(StudentMetrics).validation_loss.best,
        )
    model, tokenizer = AutoModelForCausalLM.from_pretrained(where), AutoTokenizer.from_pretrained(where)
    assert model.config.num_hidden_layers == 2
    assert validation_loss(model, tokenizer) == pytest.approx(best, rel=1e-4)


def validation_loss(model: Any, tokenizer: Any) -> float:
    """The same number by transformers alone: one example at a time, labels masked with -100."""
    total = weight = 0.0
    for row in world.examples():
        if row["split"] == "validation":
            prompt = tokenizer.apply_chat_template(row["messages"], add_generation_prompt=True, return_dict=False)
            answer = [*tokenizer(row["target"])["input_ids"], tokenizer.eos_token_id]
            ids, labels = torch.tensor([prompt + answer]), torch.tensor([[-100] * len(prompt) + answer])
            with torch.no_grad():
                total += row["weight"] * len(answer) * model(input_ids=ids, labels=labels).loss.item()
            weight += row["weight"] * len(answer)
    return total / weight


@pytest.fixture
def begun(folder: Path, tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen]]:
    """A folder with the same teacher and data, and a driver that is training `steady` in it."""
    shutil.copytree(folder / "teacher", tmp_path / "teacher")
    shutil.copytree(folder / "run" / "dataset", tmp_path / "run" / "dataset")
    driver = script("pipeline", tmp_path, ["steady"])
    yield tmp_path, driver
    driver.kill()
    driver.wait()


def wait_until(folder: Path, driver: subprocess.Popen, holds: Callable[[Progress], Any]) -> None:
    """Wait until the checkpoint that a rerun would continue from `holds`."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and driver.poll() is None:
        progress = saved(folder)
        if progress and holds(progress):
            return
        time.sleep(0.05)
    raise AssertionError(f"no such checkpoint: {output(folder)}")


def saved(folder: Path) -> Progress | None:
    """The progress in the last checkpoint that Ray Train has listed."""
    for listing in (folder / "run" / "ledger").rglob("checkpoint_manager_snapshot.json"):
        with contextlib.suppress(OSError, ValueError):  # half-written, or just replaced by the next one
            latest = json.loads(listing.read_text())["latest_checkpoint_result"]
            return Progress.read(listing.parent / latest["checkpoint_dir_name"]) if latest else None
    return None


@pytest.mark.chaos
def test_killed_worker_and_killed_driver_resume_with_equal_losses(unbroken: Path, begun: tuple[Path, subprocess.Popen]) -> None:
    folder, driver = begun
    wait_until(folder, driver, lambda progress: progress.step >= 3)
    workers = [child for child in psutil.Process(driver.pid).children(recursive=True) if "RayTrainWorker" in child.name()]
    assert workers, "the trainer's worker should be a descendant of the driver"
    for worker in workers:
        worker.kill()
    wait_until(folder, driver, lambda progress: progress.resumed_from)  # Ray Train has started another worker, which went on
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not (folder / "run" / "students" / "steady" / "record.json").exists()

    world.train(folder, ["steady"])

    assert len(artifact(folder, "steady").metrics(StudentMetrics).resumed_from) == 2
    assert curve(folder, "steady").equals(curve(unbroken, "steady"))
    assert len(list((folder / "run" / "ledger").rglob("checkpoint_2*"))) == 1


def test_finished_training_is_only_read_when_its_artifact_was_lost(unbroken: Path, tmp_path: Path) -> None:
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "run" / "students" / "pair")
    world.train(tmp_path, ["pair"])
    assert artifact(tmp_path, "pair").metrics(StudentMetrics).resumed_from == []
    assert curve(tmp_path, "pair").equals(curve(unbroken, "pair"))
