"""When a training ends, which of its models is the best, how its learning rate falls, and what several seeds show."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.contract.profile import Pool
from engine.contract.students import EarlyStop, Student
from engine.distributed.placement import Group
from engine.errors import ContractError, ModelError
from engine.records.student import TrainingSetup
from engine.students.training import launch, loop
from engine.students.training.checkpoint_state import Progress
from engine.students.training.schedule import decay_steps, latest_decay_start, learning_rate
from engine.students.training.state import Training, TrainSpec, WorkerContext
from jobs.commands.check_students import student_line, student_notes, verify_students
from jobs.commands.estimate import exactly
from jobs.commands.estimate import student as planned_student
from jobs.commands.status import seed_table
from jobs.steps import students

UNIT = SimpleNamespace(name="u", supervise="answer", output=SimpleNamespace(json_schema={}))
CUT = {"shrink": {"source": "x", "to": 0.5, "steps": 2}}
PRUNE = {"prune": {"source": "x", "layers": [0, 1]}}
SETUP = TrainingSetup(parameters=1, source_parameters=2, source_layers=3, examples={"train": 80, "validation": 9}, too_long=0)


def student(**changes: Any) -> Student:
    return Student.model_validate({"name": "s", "init": PRUNE, "batch_size": 8, "learning_rate": 1.0, **changes})


def test_keys_that_older_recipes_do_not_have_are_left_out_while_they_have_their_defaults() -> None:
    new = {"max_steps", "max_seconds", "validate_steps", "metric", "metric_examples", "decode", "warmup_steps", "schedule"}
    new |= {"decay_ratio", "seeds", "keep_seeds"}
    assert new <= set(Student.model_fields) and not new & set(student().model_dump())
    assert set(student(metric="exact_match", seeds=3).model_dump()) - set(student().model_dump()) == {"metric", "seeds"}


@pytest.mark.parametrize(
    "wrong", [{"metric_examples": 0}, {"max_seconds": 0}, {"seeds": 0}, {"decay_ratio": 1.0}, {"max_steps": 0}]
)
def test_numbers_without_a_meaning_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        student(**wrong)


def test_pairs_alone_are_not_trained_between_two_cuts() -> None:
    pairs = {"sft": 0, "dpo": 1}
    with pytest.raises(ValidationError, match=r"init.shrink.recover_steps: found 50, expected 0 with objectives over pairs alone"):
        student(init=CUT, objectives=pairs)
    for more in ({"recover_steps": 0}, {"steps": 1}):
        student(init={"shrink": {**CUT["shrink"], **more}}, objectives=pairs)
    student(init=CUT, objectives={"dpo": 1})


def test_the_metric_chooses_and_the_loss_decides_between_equals() -> None:
    progress = Progress()
    for step, (loss, metric) in enumerate([(2.0, 0.0), (1.0, 0.0), (0.9, 0.5), (0.5, 0.25), (0.6, 0.5), (0.7, 0.5)], start=1):
        progress.step = step
        progress.update_best(loss, EarlyStop(patience=9), metric)
    assert (progress.best_step, progress.best_metric, progress.best, progress.waited) == (5, 0.5, 0.6, 1)
    progress.update_best(float("nan"), EarlyStop(patience=9), None)
    progress.update_best(float("inf"), EarlyStop(patience=9), 1.0)
    assert progress.best_step == 5


def test_min_delta_is_of_the_metric() -> None:
    progress = Progress(step=1, best=1.0, best_metric=0.5)
    progress.update_best(0.9, EarlyStop(patience=1, min_delta=0.1), 0.55)
    assert progress.stopped_early and progress.best == 1.0


def test_constant_stays_and_wsd_falls_once_its_decay_has_begun() -> None:
    flat, wsd = student(schedule="constant", warmup_steps=4), student(schedule="wsd", warmup_steps=4, decay_ratio=0.25)
    assert [learning_rate(step, 100, flat) for step in (0, 3, 4, 99)] == [0.25, 1.0, 1.0, 1.0]
    assert learning_rate(59, 100, wsd) == 1.0 == learning_rate(60, 100, wsd, 60)
    rates = [learning_rate(step, 100, wsd, 60) for step in range(60, 81)]  # 60 / (60 + 20): a quarter of all is decay
    assert rates == sorted(rates, reverse=True) and rates[-1] == 0 < rates[-2]
    assert learning_rate(99, 100, student(warmup_steps=0)) < 1e-3


@given(total=st.integers(1, 2000), ratio=st.floats(0.001, 0.999))
@example(total=8, ratio=0.2)
@settings(deadline=None)
def test_decay_that_nothing_begins_earlier_ends_with_the_last_step(total: int, ratio: float) -> None:
    section = student(schedule="wsd", decay_ratio=ratio, warmup_steps=0)
    start = latest_decay_start(total, section)
    assert start + decay_steps(start, total, section) == total
    assert learning_rate(total - 1, total, section, start) > 0  # no step is made for nothing


def test_decay_of_every_length_ends_with_the_last_step() -> None:
    for ratio in (0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.9):
        section = student(schedule="wsd", decay_ratio=ratio)
        starts = [(total, latest_decay_start(total, section)) for total in range(1, 2001)]
        assert all(start + decay_steps(start, total, section) == total for total, start in starts)
        assert all(0 < start + decay_steps(start, total, section) <= total for total in range(2, 60) for start in range(1, total))


class Clock:
    """A training whose losses are given, and whose step takes one second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, losses: list[float], section: Student) -> None:
        worker: Any = WorkerContext(0, 1, "cpu", None, lambda folder: None, lambda progress, steps: None)  # type: ignore[arg-type]
        train: Any = range(80)  # ten steps an epoch
        parts: dict[str, Any] = {"pruned": None, "engine": None, "splits": {"train": train}, "scratch": Path()}
        self.training = Training(TrainSpec(section, "", "", "cpu", "", ""), worker, progress=Progress(), started=0.0, **parts)
        self.losses, self.validated = iter(losses), list[int]()
        monkeypatch.setattr(loop, "validate", self.validate)
        monkeypatch.setattr(Training, "elapsed", lambda training: float(training.progress.step))

    def validate(self, training: Training) -> None:
        progress = training.progress
        self.validated.append(progress.step)
        progress.update_best(next(self.losses), section.early_stop if (section := training.spec.student) else None)

    def run(self, diverges: int | None = None) -> Progress:
        progress = self.training.progress
        while not progress.is_over:
            progress.step += 1
            progress.curve.append({"split": "train", "loss": float("nan") if progress.step == diverges else 1.0})
            loop.advance(self.training)
        return progress


@pytest.mark.parametrize(
    ("changes", "losses", "end", "why", "decay"),
    [
        ({"epochs": 3}, [3, 2, 1], 30, "epochs", None),
        ({"epochs": 9}, [1, 2, 3], 30, "early_stop", None),
        ({"max_steps": 25}, [3, 2, 1], 25, "max_steps", None),
        ({"max_steps": 8}, [3], 8, "max_steps", None),
        ({"max_seconds": 12}, [3, 2], 12, "max_seconds", None),
        ({"validate_steps": 4, "max_steps": 10}, [3, 2, 1], 10, "max_steps", None),
        ({"schedule": "wsd", "epochs": 9}, [1, 2, 3, 3], 38, "early_stop", 30),
        ({"schedule": "wsd", "max_steps": 50}, [5, 4, 3, 2, 1], 50, "max_steps", 40),
        ({"schedule": "wsd", "max_steps": 99, "max_seconds": 20}, [5, 4], 20, "max_seconds", 16),
        ({"schedule": "wsd", "max_steps": 99, "max_seconds": 12.5}, [5, 6], 12, "max_seconds", 10),
        ({"schedule": "wsd", "max_steps": 99, "max_seconds": 20, "validate_steps": 9}, [5, 6, 7], 20, "max_seconds", 16),
        ({"schedule": "wsd", "max_steps": 23}, [3, 2, 1], 23, "max_steps", 18),
        ({"max_steps": 25, "diverges": 12}, [3], 12, "diverged", None),
        ({"schedule": "wsd", "epochs": 9, "diverges": 33}, [1, 2, 3], 33, "diverged", 30),
        ({"schedule": "wsd", "max_steps": 50, "early_stop": None}, [1, 2, 3, 4, 5], 50, "max_steps", 40),
    ],
)
def test_a_training_ends_by_what_comes_first(
    monkeypatch: pytest.MonkeyPatch, changes: dict, losses: list[float], end: int, why: str, decay: int | None
) -> None:
    diverges = changes.get("diverges")
    clock = Clock(monkeypatch, losses, student(**{name: value for name, value in changes.items() if name != "diverges"}))
    found = clock.run(diverges)
    assert (found.step, found.ended_by, found.decay_start) == (end, why, decay)
    assert diverges or clock.validated[-1] == end
    assert len(clock.validated) == len(losses)


def ended(seed: int, metric: float | None, loss: float, **more: Any) -> students.Ended:
    shares = {"metric": metric, "served": metric, "unconstrained": None}
    entry = {"step": 5, "epoch": 0.5, "split": "validation", "loss": loss, **shares}
    progress = Progress(step=10, best=loss, best_metric=metric, best_step=5, curve=[entry], setup=SETUP, ended_by="max_seconds")
    return students.Ended(student(seed=seed, **more), progress, Path())


def test_the_best_seed_is_that_of_the_best_metric_then_loss() -> None:
    every = [ended(0, 0.5, 0.1), ended(1, 0.75, 0.3), ended(2, 0.75, 0.2), ended(3, 0.75, 0.2)]
    best = max(every, key=students.Ended.rank)
    assert best.student.seed == 2
    found = students.metrics(student(seeds=4), [0, 1], best, every)
    assert found.seed == 2 and [each.seed for each in found.seeds] == [0, 1, 2, 3] and found.seeds[2].best_step == 5
    assert found.spread["metric"].mean == 0.6875 and found.spread["metric"].sd == pytest.approx(0.125)
    assert set(found.spread) == {"loss", "metric", "served"}
    assert max([ended(0, None, 0.2), ended(1, None, 0.1)], key=students.Ended.rank).student.seed == 1
    assert students.metrics(student(), [0, 1], best, [best]).spread == {}


def test_the_table_of_seeds_has_their_spread() -> None:
    every = [ended(0, 0.5, 0.1), ended(1, 0.75, 0.3)]
    metrics = students.metrics(student(seeds=2), [0, 1], every[1], every)
    shown: Any = SimpleNamespace(name="s", best=1, seeds=metrics.seeds, spread=metrics.spread)
    text = seed_table([shown])
    assert "0.625, 0.177" in text and "max_seconds  best" in text and seed_table([]) == ""


def test_a_training_that_has_not_seen_every_example_says_so() -> None:
    [warning] = students.unseen(student(), ended(0, 0.5, 0.1))
    assert "students.s.max_seconds ended the training after 5 steps, 50 % of the first epoch" in warning


def test_a_training_whose_loss_is_no_number_any_more_says_so_with_or_without_a_best_model() -> None:
    found = ended(0, 0.5, 0.1)
    over = found.progress.model_copy(update={"ended_by": "diverged", "step": 7})
    [warning] = students.diverged([found, found._replace(progress=over)])
    assert "seed 0: the loss of step 7 is no number" in warning and "its best model is of step 5" in warning
    assert students.unseen(student(), found._replace(progress=over)) == []
    with pytest.raises(
        ModelError, match=r"seed 0: the loss of step 7 is no number, and no validation .* Lower students.s.learning"
    ):
        students.require_best(found._replace(progress=over.model_copy(update={"best": None})), student())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_steps": 20, "warmup_steps": 20}, "students.s.warmup_steps: found 20, expected less than max_steps, which is 20"),
        ({"max_steps": 20, "validate_steps": 21}, "students.s.validate_steps: found 21, expected at most max_steps"),
        (
            {"init": {**CUT, "vocabulary": {}}, "objectives": {"hidden": 1}},
            "students.s.objectives.hidden: found with init.vocabulary",
        ),
    ],
)
def test_check_refuses_settings_that_do_not_go_together(changes: dict, words: str) -> None:
    pick: Any = SimpleNamespace(validation=0.1)
    teacher = SimpleNamespace(name="t", answers=True, sampling=SimpleNamespace(n=2))
    contract: Any = SimpleNamespace(
        students=[student(**changes)], curation=SimpleNamespace(pick=pick), specialist=SimpleNamespace(task_units=[UNIT]),
        teachers=SimpleNamespace(models=[teacher], routes=None),
    )  # fmt: skip
    with pytest.raises(ContractError, match=re.escape(words)):
        verify_students(contract)
    verify_students(
        SimpleNamespace(students=[student(max_steps=20, warmup_steps=19, validate_steps=20)], curation=contract.curation)
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"packing": True, "objectives": {"sft": 0, "dpo": 1}}, "s: packing has no effect"),
        ({"init": CUT, "warmup_steps": 50}, "between two cuts the rate rises over warmup_ratio of these, 0.1"),
        ({"init": CUT, "objectives": {"dpo": 1}}, "only the objectives over examples are trained"),
        ({"objectives": {"sft": 0, "process": 1}}, "s: process is the same as sft: no task unit"),
        ({"packing": True, "init": CUT, "warmup_steps": 49}, ""),
        ({"packing": True, "objectives": {"dpo": 1}, "init": {"shrink": {"source": "x", "to": 0.5}}, "warmup_steps": 50}, ""),
    ],
)
def test_check_names_what_has_no_effect(changes: dict, words: str) -> None:
    contract: Any = SimpleNamespace(students=[student(**changes)], specialist=SimpleNamespace(task_units=[UNIT]))
    notes = list(student_notes(contract))
    assert len(notes) == bool(words) and words in "".join(notes)


def test_seeds_are_trained_side_by_side_as_far_as_there_is_room() -> None:
    def room(pool: Pool, *nodes: dict[str, float], workers: int = 2) -> int:
        groups = [Group(f"n{at}", has, 1, 1, {"zone": "ab"[at % 2]}) for at, has in enumerate(nodes)]
        return launch.at_once(student(workers=workers), pool, groups, 5)

    assert [room(Pool(cpus=2), {"CPU": cpus}) for cpus in (1, 4, 9, 64)] == [1, 1, 2, 5]
    assert room(Pool(cpus=1, gpus=1), {"CPU": 64, "GPU": 4}) == 2
    assert room(Pool(cpus=5), *[{"CPU": 8.0}] * 3, workers=1) == 3  # on each node one, of 24 CPUs
    assert room(Pool(labels={"zone": "b"}), {"CPU": 64}, {"CPU": 4}) == 2
    assert room(Pool(resources={"rack": 1}), {"CPU": 64}, {"CPU": 64, "rack": 4}) == 2


def test_check_says_what_of_a_training_misleads() -> None:
    unit = SimpleNamespace(name="letter", output=SimpleNamespace(json_schema=None))
    section = student(metric="exact_match", max_seconds=60, seeds=2)
    pick = SimpleNamespace(validation=0.0)
    contract: Any = SimpleNamespace(
        specialist=SimpleNamespace(task_units=[unit]), students=[section], curation=SimpleNamespace(pick=pick)
    )
    words, seconds = student_notes(contract)
    assert "compares the text of letter with the teacher's answer, word for word" in words and "schedule: wsd" in seconds
    assert student_line(section) == "s: 2 layers of x (0, 1), 3 epochs, at most 60 s, 2 seeds, best by exact_match (both)"
    with pytest.raises(ContractError, match="validation: found 0"):
        verify_students(contract)


@pytest.mark.parametrize(("rows", "said"), [(300, "about 30 of them for validation"), (4, "too few for a validation split")])
def test_plan_says_how_many_examples_are_for_validation(rows: int, said: str) -> None:
    estimates: Any = SimpleNamespace(count=lambda name: exactly(rows))
    assert said in planned_student("s", estimates, validation=0.1).basis
