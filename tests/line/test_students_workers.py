"""A training goes on with another number of workers and another ZeRO stage, with the losses of the unbroken one."""

from pathlib import Path

import pytest
import students_world as world

from engine.students.training.checkpoint_state import Progress
from tests.line.test_students import output, script


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training with one worker without a break, and the same from step 4 on."""
    folder = tmp_path_factory.mktemp("workers")
    world.build(folder)
    assert script("unbroken", folder, []).wait(timeout=280) == 0, output(folder)
    return folder


def losses(checkpoint: Path) -> list[float]:
    return [entry["loss"] for entry in Progress.read(checkpoint).curve]


def go_on(folder: Path, workers: int, zero: int, target: str, resume: str, stop: int) -> Progress:
    port = str(world.free_port())
    arguments = [str(workers), port, str(zero), target, resume, str(stop)]
    each = [script("shared", folder, [str(rank), *arguments]) for rank in range(workers)]
    try:
        assert [one.wait(timeout=280) for one in each] == [0] * workers, output(folder)
    finally:
        for one in each:
            one.kill()
    return Progress.read(folder / target)


@pytest.fixture(scope="module")
def two(folder: Path) -> Path:
    """The training from step 4 to step 8 with two workers in ZeRO stage 3."""
    go_on(folder, 2, 3, "two", "unbroken-4", 8)
    return folder / "two"


def test_same_number_of_workers_has_bit_equal_losses(folder: Path) -> None:
    assert losses(folder / "resumed") == losses(folder / "unbroken")


def test_two_workers_in_another_stage_have_equal_losses(folder: Path, two: Path) -> None:
    assert losses(two) == pytest.approx(losses(folder / "unbroken")[:9], rel=1e-5)  # a validation at the end of the epoch


def test_one_worker_that_began_in_another_stage_goes_on_in_stage_0(folder: Path) -> None:
    go_on(folder, 1, 2, "partitioned", "unbroken-4", 8)  # as earlier versions trained
    go_on(folder, 1, 0, "whole", "partitioned", -1)
    assert losses(folder / "whole") == pytest.approx(losses(folder / "unbroken"), rel=1e-5)


def test_three_workers_after_two_have_equal_losses(folder: Path, two: Path) -> None:
    progress = go_on(folder, 3, 0, "three", two.name, -1)
    assert losses(folder / "three") == pytest.approx(losses(folder / "unbroken"), rel=1e-5)
    assert [tuple(change.model_dump().values()) for change in progress.resized] == [(4, 1, 2), (8, 2, 3)]
    assert progress.resumed_from == [4, 8] and progress.is_over
