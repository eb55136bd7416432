"""Training between two cuts: its rate falls, no schedule of the training runs in it, and a loss that is no number ends it."""

from pathlib import Path
from typing import Any

import pytest

from engine.contract.students import Student
from engine.errors import ModelError
from engine.students.data.pack import Packed
from engine.students.training import loop, passes
from engine.students.training.checkpoint_state import Progress
from engine.students.training.recovery import Recovery, recover, recovering
from engine.students.training.schedule import learning_rate
from engine.students.training.state import TrainSpec, WorkerContext
from tests.unit.test_students_recipe import packed

STEPS = 20
SHRINK = {"shrink": {"source": "x", "to": 0.5, "steps": 2, "recover_steps": STEPS}}


def recovery(**changes: Any) -> Recovery:
    """A recovery of 20 steps on 40 examples, five steps an epoch."""
    section = Student.model_validate({"name": "s", "init": SHRINK, "batch_size": 8, "learning_rate": 1.0, **changes})
    spec = TrainSpec(recovering(section, STEPS), "", "", "cpu", "", "")
    worker: Any = WorkerContext(0, 1, "cpu", None, lambda folder: None, lambda progress, steps: None)  # type: ignore[arg-type]
    train: Packed = packed([4] * 40)
    parts: dict[str, Any] = {"pruned": None, "engine": None, "splits": {"train": train}, "scratch": Path()}
    return Recovery(spec, worker, progress=Progress(phase="recovery 1 of 1"), started=0.0, steps=STEPS, **parts)


def rates(monkeypatch: pytest.MonkeyPatch, training: Recovery, losses: Any = lambda step: 1.0) -> list[float]:
    """The learning rate of each step."""
    found: list[float] = []

    def step(given: Recovery, rows: Any) -> None:
        progress = given.progress
        found.append(learning_rate(progress.step, given.total_steps, given.spec.student, progress.decay_start))
        progress.step += 1
        progress.curve.append({"split": "train", "loss": losses(progress.step)})

    monkeypatch.setattr(loop, "step", step)
    recover(training)
    return found


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
@pytest.mark.parametrize("warmup", [None, 4, 20, 1000])
def test_the_rate_rises_to_its_peak_and_falls(monkeypatch: pytest.MonkeyPatch, schedule: str, warmup: int | None) -> None:
    found = rates(monkeypatch, recovery(schedule=schedule, warmup_steps=warmup))
    rise = 4 if warmup == 4 else 2  # more warm-up steps than the recovery has give way to a tenth of them
    assert len(found) == STEPS and found.index(1.0) == rise - 1
    assert found[-1] < 0.6 and found[-4:] == sorted(found[-4:], reverse=True)


@pytest.mark.parametrize("process", [{"schedule": "fade"}, {"schedule": "drop_after", "epochs": 1}])
def test_a_rationale_keeps_its_weight(process: dict) -> None:
    from engine.students.objectives.process import rationale_weight

    training = recovery(objectives={"sft": 0, "process": process}, epochs=4)
    settings: Any = training.spec.student.objectives.process
    for epoch in (0, 1, 3):
        place = passes.place(training, epoch)
        assert rationale_weight(settings, place.epoch, place.epochs) == 1.0


def test_a_loss_that_is_no_number_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"student s: recovery 1 of 1: the loss of step 3 is no number. Lower"):
        rates(monkeypatch, recovery(), losses=lambda step: float("inf") if step == 3 else 1.0)
