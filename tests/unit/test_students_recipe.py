"""The training recipe: learning rates, batches over workers, checkpoint names, early stopping, progress lines."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from engine.contract.profile import Pool
from engine.contract.students import EarlyStop, Objectives, Student
from engine.errors import InputError, ModelError
from engine.records.student import TrainingSetup
from engine.storage.folder import Folder
from engine.students.data.flat import Counts
from engine.students.data.pack import Packed
from engine.students.init.prune import check_layers
from engine.students.objectives import OBJECTIVES, PAIR_OBJECTIVES
from engine.students.training import launch, zero
from engine.students.training.checkpoint_state import Progress
from engine.students.training.progress_file import ProgressReporter, ProgressSnapshot
from engine.students.training.schedule import learning_rate
from engine.students.training.setup import check_split
from jobs.steps import students


def student(**changes: Any) -> Student:
    return Student.model_validate({"name": "s", "init": {"prune": {"source": "x", "layers": [0, 1]}}, **changes})


def test_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    rates = [learning_rate(step, 100, student(learning_rate=0.5, warmup_ratio=0.1)) for step in range(101)]
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == pytest.approx(0.5) == rates[9] == rates[10]
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("batch", "micro", "workers"), [(16, 4, 2), (16, 16, 1), (8, 16, 4), (6, 1, 3)])
def test_micro_batches_of_all_workers_make_the_batch(batch: int, micro: int, workers: int) -> None:
    config = zero.config(student(batch_size=batch, micro_batch_size=micro, workers=workers), accelerator="cpu")
    per_device = config["train_micro_batch_size_per_gpu"]
    assert per_device <= micro
    assert per_device * config["gradient_accumulation_steps"] * workers == config["train_batch_size"] == batch


def test_weights_are_bfloat16_on_a_gpu_only_and_float32_where_ordered() -> None:
    assert "bf16" in zero.config(student(), accelerator="gpu")
    assert "bf16" not in zero.config(student(), accelerator="cpu")
    plain = [zero.config(student(dtype="float32"), accelerator=kind) for kind in ("cpu", "gpu")]
    assert not any({"bf16", "torch_autocast"} & set(config) for config in plain)


@pytest.mark.parametrize(("gpus", "cuda"), [(0, False), (1, True)])
def test_ray_train_and_deepspeed_agree_on_the_device(gpus: int, cuda: bool) -> None:
    pool = Pool(cpus=2, gpus=gpus)
    assert launch.scaling(student(), pool)["use_gpu"] is cuda
    assert launch.environment(pool)["DS_ACCELERATOR"] == ("cuda" if cuda else "cpu")


@pytest.mark.parametrize(("batch", "workers", "micro"), [(16, 3, 16), (16, 2, 3), (4, 8, 1)])
def test_batch_that_cannot_be_shared_is_refused(batch: int, workers: int, micro: int) -> None:
    with pytest.raises(ValidationError, match="batch_size: found"):
        student(batch_size=batch, workers=workers, micro_batch_size=micro)


def location(folder: Path, **changes: Any) -> launch.CheckpointLocation:
    source = folder / "model"
    source.mkdir(exist_ok=True)
    (source / "config.json").write_text("{}")
    context: Any = SimpleNamespace(ledger=Folder(f"{folder}/ledger"))
    dataset: Any = SimpleNamespace(fingerprint="0")
    return students.checkpoints(context, student(learning_rate=1e-5, batch_size=8, **changes), source, dataset)


def test_checkpoints_keep_the_name_that_they_had_under_the_first_names_of_the_keys(tmp_path: Path) -> None:
    """A training that an earlier version began is resumed: the name below was computed by it."""
    older = "9f15edd5a03eefc350a3b4dceeae1561"
    (tmp_path / "ledger" / "checkpoints" / "s" / older).mkdir(parents=True)
    assert location(tmp_path) == launch.CheckpointLocation(f"{tmp_path}/ledger/checkpoints/s", older)


def test_checkpoints_have_one_name_for_all_numbers_of_workers(tmp_path: Path) -> None:
    name = location(tmp_path)
    assert name == location(tmp_path, workers=2) == location(tmp_path, micro_batch_size=4) == location(tmp_path, zero=3)
    assert name != location(tmp_path, epochs=4)


def test_rounds_are_added_to_a_training_on_examples_that_is_finished(tmp_path: Path) -> None:
    rounds = {"objective": "grpo", "rewards": {"json_schema": 1}}
    assert location(tmp_path) == location(tmp_path, on_policy=rounds)


def test_every_objective_of_the_contract_is_registered() -> None:
    assert {*OBJECTIVES, *PAIR_OBJECTIVES} == set(Objectives.model_fields) - {"by_kind", "by_tier"}


def test_layers_that_are_not_there_are_named_with_those_that_are() -> None:
    with pytest.raises(ModelError, match=r"\[30, -1\].*30 layers, 0 to 29"):
        check_layers((0, 30, -1), 30, Path("some/model"))
    with pytest.raises(ModelError, match="once"):
        check_layers((0, 1, 0), 30, Path("some/model"))


def validated(losses: list[float], stop: EarlyStop | None) -> Progress:
    progress = Progress()
    for loss in losses:
        progress.step += 1
        if not progress.stopped_early:
            progress.update_best(loss, stop)
    return progress


def test_patience_counts_validations_since_the_best() -> None:
    found = validated([3.0, 2.0, 2.5, 1.0, 1.5, 1.5], EarlyStop(patience=2))
    assert found.stopped_early
    assert (found.best, found.best_step) == (1.0, 4)
    assert not validated([3.0, 2.0, 2.5, 1.0, 1.5], EarlyStop(patience=2)).stopped_early


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    nan, inf = float("nan"), float("inf")
    found = validated([nan, 2.0, nan, inf, 1.5], EarlyStop(patience=3))
    assert (found.best, found.best_step) == (1.5, 5)
    assert validated([nan, inf], EarlyStop(patience=2)).best is None and validated([nan, inf], EarlyStop(patience=2)).stopped_early
    older = Progress(best=nan, best_step=1, step=2)  # of a checkpoint whose first validation was taken for the best
    older.update_best(3.0, None)
    assert (older.best, older.best_step) == (3.0, 2)


def packed(lengths: list[int], weight: float = 1.0, too_long: int = 0) -> Packed:
    count = len(lengths)
    starts = np.cumsum([0, *lengths])
    return Packed(np.ones(sum(lengths), int), starts, np.ones(count, int), np.full(count, weight), np.zeros(count, int), too_long)


def test_a_split_without_examples_is_refused_with_what_to_set() -> None:
    check_split("train", Counts.of(packed([4, 5], too_long=3)), student())
    with pytest.raises(InputError, match=r"no validation example is left: all 3 are longer than 512 tokens. Raise students.s"):
        check_split("validation", Counts.of(packed([], too_long=3)), student())
    with pytest.raises(InputError, match="weights of its 1 examples are all 0"):
        check_split("train", Counts.of(packed([4], weight=0.0)), student())


def test_improvement_below_min_delta_does_not_count() -> None:
    assert validated([1.0, 0.99, 0.98], EarlyStop(patience=2, min_delta=0.05)).stopped_early


def test_without_early_stop_the_best_is_still_kept() -> None:
    found = validated([1.0, 2.0, 3.0, 4.0], None)
    assert not found.stopped_early
    assert found.best_step == 1


SETUP = TrainingSetup(parameters=1, source_parameters=2, source_layers=3, examples={"train": 4}, too_long=0)


def test_progress_reads_back_bit_equal(tmp_path: Path) -> None:
    progress = Progress(step=3, best=0.1 + 0.2, curve=[{"loss": 1 / 3}], resumed_from=[1], setup=SETUP)
    progress.write(tmp_path)
    assert Progress.read(tmp_path) == progress


def test_progress_with_a_loss_that_is_no_number_can_be_read_again(tmp_path: Path) -> None:
    Progress(best=float("inf"), curve=[{"loss": float("nan")}]).write(tmp_path)
    progress = Progress.read(tmp_path)
    assert progress.best == float("inf") and progress.curve[0]["loss"] != progress.curve[0]["loss"]


def test_progress_of_an_older_checkpoint_is_read(tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text(f'{{"step": 3, "facts": {SETUP.model_dump_json()}}}')
    assert Progress.read(tmp_path).setup == SETUP


def test_progress_line_has_step_loss_speed_and_time_left() -> None:
    first, now = ProgressSnapshot(10, 90, 1000, 2.0, None), ProgressSnapshot(30, 90, 4000, 0.51, 0.72)
    line = ProgressReporter("s", print).line(now, first, 10.0)
    assert line == "students/s: step 30 of 90, loss 0.510, best validation 0.720, 300 target tokens/s, about 30 s left"


def test_a_student_whose_layers_are_all_frozen_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"freeze_layers: found 2, expected less than the length of init.prune.layers, 2"):
        student(init={"prune": {"source": "x", "layers": [0, 1]}}, freeze_layers=2)
