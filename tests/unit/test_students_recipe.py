"""What a student's section becomes: learning rates, DeepSpeed's configuration, Ray Train's arguments, stopping, progress lines."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from engine.contract.profile import Pool
from engine.contract.students import EarlyStop, Student
from engine.errors import ModelError
from engine.students import launch, zero
from engine.students.checkpoint_state import Progress
from engine.students.loop import learning_rate
from engine.students.progress_file import Meter, ProgressSnapshot
from engine.students.prune import check_layers


def student(**changes: Any) -> Student:
    return Student.model_validate({"name": "s", "init": {"prune": {"source": "x", "layers": [0, 1]}}, **changes})


def test_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    rates = [learning_rate(step, 100, student(learning_rate=0.5, warmup=0.1)) for step in range(101)]
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == pytest.approx(0.5) == rates[9] == rates[10]
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_config_on_cpu_multiplies_in_bfloat16_and_compiles_nothing(stage: int) -> None:
    found = zero.config(student(zero=stage, batch=16, micro_batch=4, workers=2, clip=0.5), accelerator="cpu")
    assert found["zero_optimization"]["stage"] == stage
    assert (found["train_batch_size"], found["train_micro_batch_size_per_gpu"], found["gradient_accumulation_steps"]) == (16, 4, 2)
    assert found["torch_autocast"] == {"enabled": True, "dtype": "bfloat16"}
    assert "bf16" not in found
    assert found["optimizer"]["params"]["torch_adam"] is True
    assert found["gradient_clipping"] == 0.5


def test_config_on_gpu_holds_bfloat16_weights() -> None:
    found = zero.config(student(), accelerator="gpu")
    assert found["bf16"] == {"enabled": True}
    assert "torch_autocast" not in found
    assert found["zero_optimization"]["overlap_comm"] is True


def test_config_in_float32_asks_for_no_other_precision() -> None:
    found = zero.config(student(dtype="float32"), accelerator="cpu")
    assert "bf16" not in found and "torch_autocast" not in found


def test_pool_with_gpus_gives_each_worker_one() -> None:
    pool = Pool(cpus=4, gpus=1)
    assert launch.scaling(student(workers=8), pool) == {
        "num_workers": 8,
        "use_gpu": True,
        "resources_per_worker": {"CPU": 4, "GPU": 1},
    }
    assert launch.accelerator(pool) == "gpu"
    assert launch.environment(pool)["DS_ACCELERATOR"] == "cuda"


def test_pool_without_gpus_gives_each_worker_its_threads() -> None:
    pool = Pool(cpus=2)
    assert launch.scaling(student(), pool) == {"num_workers": 1, "use_gpu": False, "resources_per_worker": {"CPU": 2}}
    assert launch.environment(pool)["OMP_NUM_THREADS"] == "2"
    assert launch.environment(pool)["DS_ACCELERATOR"] == "cpu"


@pytest.mark.parametrize(("batch", "workers", "micro"), [(16, 3, 16), (16, 2, 3), (4, 8, 1)])
def test_batch_that_cannot_be_shared_is_refused(batch: int, workers: int, micro: int) -> None:
    with pytest.raises(ValidationError, match="batch: found"):
        student(batch=batch, workers=workers, micro_batch=micro)


def test_layers_that_are_not_there_are_named_with_those_that_are() -> None:
    with pytest.raises(ModelError, match=r"\[30, -1\].*30 layers, 0 to 29"):
        check_layers((0, 30, -1), 30, Path("some/model"))
    with pytest.raises(ModelError, match="once"):
        check_layers((0, 1, 0), 30, Path("some/model"))


def graded(losses: list[float], stop: EarlyStop | None) -> Progress:
    progress = Progress()
    for loss in losses:
        progress.step += 1
        if not progress.stopped_early:
            progress.grade(loss, stop)
    return progress


def test_patience_counts_validations_since_the_best() -> None:
    found = graded([3.0, 2.0, 2.5, 1.0, 1.5, 1.5], EarlyStop(patience=2))
    assert found.stopped_early
    assert (found.best, found.best_step) == (1.0, 4)
    assert not graded([3.0, 2.0, 2.5, 1.0, 1.5], EarlyStop(patience=2)).stopped_early


def test_improvement_below_min_delta_does_not_count() -> None:
    assert graded([1.0, 0.99, 0.98], EarlyStop(patience=2, min_delta=0.05)).stopped_early


def test_without_early_stop_the_best_is_still_kept() -> None:
    found = graded([1.0, 2.0, 3.0, 4.0], None)
    assert not found.stopped_early
    assert found.best_step == 1


def test_progress_reads_back_bit_equal(tmp_path: Path) -> None:
    progress = Progress(step=3, best=0.1 + 0.2, curve=[{"loss": 1 / 3}], resumed_from=[1])
    progress.write(tmp_path)
    assert Progress.read(tmp_path) == progress


def test_meter_says_step_loss_speed_and_time_left() -> None:
    line = Meter("s", print).line(ProgressSnapshot(30, 90, 4000, 0.51, 0.72), ProgressSnapshot(10, 90, 1000, 2.0, None), 10.0)
    assert line == "students/s: step 30 of 90, loss 0.510, best validation 0.720, 300 target tokens/s, about 30 s left"


def test_a_student_whose_layers_are_all_frozen_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"freeze_layers: found 2, expected fewer than the layers that are kept, 2"):
        student(init={"prune": {"source": "x", "layers": [0, 1]}}, freeze_layers=2)
