"""Examples in, one trained student out, as a folder that any Hugging Face tool loads."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import pyarrow.compute as pc
from ray.train import UserCallback

from engine.contract.contract import Contract
from engine.contract.renames import older_json
from engine.contract.students import PLACEMENT, Student
from engine.errors import InputError, ModelError
from engine.inference.identity import content_of
from engine.inference.weights import Weights, described
from engine.records.student import SeedMetrics, Spread, StudentMetrics, TrainingSetup, ValidationLoss
from engine.rows import EXAMPLE, PREFERENCE, STEP, content_id, from_rows
from engine.runs.job import JobContext
from engine.storage.artifact import Artifact, RowCounts
from engine.storage.folder import Folder
from engine.students.export import adapter
from engine.students.init.tokenizer import key_of
from engine.students.training import launch
from engine.students.training.checkpoint_state import Progress
from engine.students.training.generation import require_answers
from engine.students.training.preferences import MAKE_PAIRS
from engine.students.training.state import BEST, SPLITS, Served, TrainSpec
from jobs.steps import initial_source, on_policy, training_data

MEASURED = ("loss", "metric", "served", "unconstrained")
"""Of the best weights of a training."""

OUTSIDE = {"name", "exports", "on_policy"}
"""Keys of a student that do not change its training on examples."""

CAPTURE = "capture"
"""Artifact that a student needs if one of its objectives reads the teacher's distribution."""


def run(context: JobContext, callbacks: Sequence[UserCallback] = ()) -> RowCounts:
    """Train the student that the job is named after on the examples that the job needs; export its best weights.

    `callbacks` get the numbers of every checkpoint.

    Raises:
        InputError: the dataset has no training or no validation examples.
        ModelError: the source model cannot be pruned as ordered, or training failed.
    """
    student = context.contract.student(context.job.name.rpartition("/")[2])
    data, tokens = (context.artifact(name) for name in context.job.needs[:2])
    place = initial_source.place(context, student)
    source = described(place)
    layers = initial_source.layers(student, source)
    check_examples(context, data, student)
    if student.objectives.reads_pairs:
        check_pairs(student, data)
    questions = on_policy.questions(context, student, data) if student.on_policy else None
    context.writer.warnings += training_data.check(student, source, data, tokens)
    plans = [replace(plan, callbacks=callbacks) for plan in planned(context, student, place, data, tokens)]
    with launch.trained(plans, context.profile.trainer_of(student.name), context.progress) as folders:
        ended = [Ended(plan.spec.student, Progress.read(folder), folder) for plan, folder in zip(plans, folders, strict=True)]
        for each in ended:
            require_best(each, student)
        best = max(ended, key=Ended.rank)
        rounds = on_policy.run(context, best.student, questions, best.folder / BEST) if questions else None
        copy(rounds.model if rounds else best.folder / BEST, context.writer.folder / "model")
        for part in (adapter.FOLDER, adapter.BASE) if student.init.adapter and not student.init.adapter.merge else ():
            copy(best.folder / BEST / part, context.writer.folder / part)
        for each in ended if student.keep_seeds else ():
            if each is not best:
                copy(each.folder / BEST, context.writer.folder / "seeds" / str(each.student.seed) / "model")
    for each in ended:
        for change in each.progress.resized:
            went_on = f"went on from step {change.step} with {change.after} workers instead of {change.before}"
            context.log(f"{context.job.name}: {went_on}")
    rows = [{"student": student.name, "seed": each.student.seed, **entry} for each in ended for entry in each.progress.curve]
    context.writer.put("steps", from_rows(rows, STEP), STEP)
    measured = metrics(student, layers, best, ended)
    context.writer.metrics = measured.model_copy(update={"on_policy": rounds.metrics}) if rounds else measured
    context.writer.warnings += [*unseen(student, best), *diverged(ended)]
    context.writer.warnings += on_policy.warnings(student, rounds.metrics) if rounds else ()
    setup = best.progress.setup
    assert setup is not None, "the loop writes it with its first checkpoint"
    if setup.covered:
        context.writer.warnings += training_data.uncovered(student, setup, context.artifact(CAPTURE), key_of(tokens, student))
    return row_counts(student, data, setup)


def row_counts(student: Student, dataset: Artifact, setup: TrainingSetup) -> RowCounts:
    """Return what became of the examples, or of the pairs where no objective reads examples."""
    rows = {"trained": setup.examples["train"], "validation": setup.examples["validation"], "too_long": setup.too_long}
    if student.objectives.reads_examples:
        return RowCounts(dataset.table("examples").rows, rows)
    audits = setup.preferences.values()
    rows |= {"too_long": sum(audit.too_long for audit in audits), "equal": sum(audit.equal for audit in audits)}
    return RowCounts(dataset.table("preferences").rows, rows)


class Ended(NamedTuple):
    """A training that has ended."""

    student: Student
    """With the training's own seed."""
    progress: Progress
    folder: Path
    """Its last checkpoint."""

    def rank(self) -> tuple[float, float, int]:
        """Return what the best training has most of."""
        progress = self.progress
        return (progress.best_metric or 0.0, -(math.inf if progress.best is None else progress.best), -self.student.seed)


def planned(context: JobContext, student: Student, source: Weights, data: Artifact, tokens: Artifact) -> list[launch.Planned]:
    """Return a training for each seed of `student`. Each is named as if it were alone, so that more seeds are added to a run."""
    capture = context.artifact(CAPTURE) if CAPTURE in context.job.needs else None
    plans = []
    for seed in range(student.seed, student.seed + student.seeds):
        alone = student.model_copy(update={"seed": seed, "seeds": 1, "keep_seeds": False})
        spec = TrainSpec(
            student=alone,
            source=str(source.resolve()) if isinstance(source, Path) else source,
            dataset=absolute(data.folder),
            accelerator=launch.accelerator(context.profile.trainer_of(student.name)),
            tokens=absolute(tokens.folder),
            tokenizer=key_of(tokens, student),
            capture=absolute(capture.folder) if capture else "",
            served=served(context.contract) if student.metric == "exact_match" else None,
            label=f"{student.name} seed {seed}" if student.seeds > 1 else "",
        )
        plans.append(launch.Planned(spec, checkpoints(context, alone, source, data, capture)))
    return plans


def served(contract: Contract) -> Served:
    """Return how the report asks students: see `jobs.steps.reports.trained`."""
    return Served(
        units={unit.name: unit for unit in contract.specialist.task_units},
        max_tokens=max(teacher.sampling.max_tokens for teacher in contract.teachers.models),
        tools=tuple(tool.name for tool in contract.teachers.tools) if contract.teachers.mode == "tools" else (),
    )


def require_best(ended: Ended, student: Student) -> None:
    """Raise ModelError if a training has no best model."""
    if ended.progress.best is None:
        raise ModelError(
            f"student {student.name}, seed {ended.student.seed}: {_numberless(ended.progress)}, so there is no best model. Lower "
            f"students.{student.name}.learning_rate, or set its dtype to float32, and run again."
        )


def _numberless(progress: Progress) -> str:
    if progress.ended_by == "diverged":
        return f"the loss of step {progress.step} is no number, and no validation before it had one"
    return "none of its validation losses is a number"


def diverged(every: Sequence[Ended]) -> list[str]:
    """Return a warning for each training that ended because its loss was no number any more."""
    return [
        f"student {each.student.name}, seed {each.student.seed}: the loss of step {each.progress.step} is no number, which ended "
        f"the training; its best model is of step {each.progress.best_step}. Lower students.{each.student.name}.learning_rate, "
        "or set its dtype to float32."
        for each in every
        if each.progress.ended_by == "diverged"
    ]


def unseen(student: Student, best: Ended) -> list[str]:
    """Return a warning if the training was over before it had seen every example."""
    last = best.progress.curve[-1]
    if last["epoch"] >= 1 or best.progress.ended_by == "diverged":
        return []
    return [
        f"student {student.name}: students.{student.name}.{best.progress.ended_by} ended the training after {last['step']} steps, "
        f"{100 * last['epoch']:.0f} % of the first epoch: it has not seen every example. Allow more, or give a larger batch_size."
    ]


def check_examples(context: JobContext, dataset: Artifact, student: Student) -> None:
    """Raise InputError if the dataset has no training or no validation examples, or none that the student's metric can use."""
    rows = dataset.read("examples", EXAMPLE, ["split", "kind"])
    present = set(rows["split"].unique().to_pylist())
    for split in SPLITS:
        if split not in present:
            raise InputError(
                f"{dataset.folder}: has no {split} examples, and {context.job.name} needs some. `rayleigh status` shows where the "
                "rows went. Loosen judges.accept or curation, raise curation.pick.validation, or give more prompts; then delete "
                "the dataset and run again."
            )
    if student.metric == "exact_match":
        require_answers(rows.filter(pc.field("split") == "validation")["kind"].to_pylist(), student.name)


def check_pairs(student: Student, dataset: Artifact) -> None:
    """Raise InputError if the dataset has no preference pairs for training, or none for validation."""
    rows = dataset.read("preferences", PREFERENCE, ["split"]) if "preferences" in dataset.record.tables else None
    present = set(rows["split"].unique().to_pylist()) if rows else set()
    for split in SPLITS:
        if split not in present:
            raise InputError(
                f"{dataset.folder}: the table preferences has no pairs for {split}, and students.{student.name}.objectives "
                f"({', '.join(student.objectives.active)}) needs some. {MAKE_PAIRS}"
            )


def checkpoints(
    context: JobContext, student: Student, source: Weights, dataset: Artifact, capture: Artifact | None = None
) -> launch.CheckpointLocation:
    """Return where this training keeps its checkpoints: the name is a hash of data, recipe, source model and capture.

    The name of earlier versions, whose recipe had the keys of PLACEMENT, is kept where a training began under it.
    """
    storage = context.ledger / "checkpoints" / student.name
    inputs = [content_of(source), *([capture.fingerprint] if capture else [])]
    names = [
        content_id(dataset.fingerprint, older_json(student, "students.*", exclude={*OUTSIDE, *left_out}), *inputs)
        for left_out in ((), PLACEMENT)
    ]
    return launch.CheckpointLocation(absolute(storage), next(filter(storage.exists, names), names[-1]))


def absolute(folder: Folder) -> str:
    """Return the path or URL of `folder`; workers have another current folder."""
    return folder.path if folder.is_local else folder.url


def copy(model: Path, target: Folder) -> None:
    """Copy the files of the folder `model` into `target`, without folders in it."""
    for path in sorted(model.iterdir()):
        if path.is_file():
            target.write(path.name, path.read_bytes())


def metrics(student: Student, layers: list[int], best: Ended, every: Sequence[Ended]) -> StudentMetrics:
    """Return the metrics of a student, with `layers` of its source, whose trainings `every` have ended."""
    progress, setup = best.progress, best.progress.setup
    losses = [entry["loss"] for entry in progress.curve if entry["split"] == "validation"]
    assert progress.best is not None and setup is not None, "`run` refuses a training without one"
    seeds = [seed_metrics(each) for each in every]
    return StudentMetrics(
        name=student.name,
        parameters=setup.parameters,
        source=student.init.source or "champion",
        source_parameters=setup.source_parameters,
        source_layers=setup.source_layers,
        layers=setup.shape.layers if setup.shape else layers,
        shape=setup.shape,
        zero=student.zero,
        workers=student.workers,
        validation_loss=ValidationLoss(final=losses[-1], best=progress.best, best_step=progress.best_step),
        steps=progress.step,
        tokens=progress.tokens,
        seconds=round(progress.seconds, 1),
        stopped_early=progress.stopped_early,
        resumed_from=progress.resumed_from,
        preferences=setup.preferences,
        ended_by=progress.ended_by,
        seed=best.student.seed,
        seeds=tuple(seeds),
        spread={name: found for name in MEASURED if (found := spread([getattr(seed, name) for seed in seeds]))},
        resized=tuple(progress.resized),
    )


def seed_metrics(ended: Ended) -> SeedMetrics:
    """Return what one training reached."""
    progress = ended.progress
    validations = [entry for entry in progress.curve if entry["split"] == "validation"]
    best = next((entry for entry in validations if entry["step"] == progress.best_step), {})
    return SeedMetrics(
        seed=ended.student.seed,
        loss=progress.best if progress.best is not None else math.nan,
        **{name: best.get(name) for name in MEASURED[1:]},
        best_step=progress.best_step,
        steps=progress.step,
        seconds=round(progress.seconds, 1),
        ended_by=progress.ended_by,
    )


def spread(values: Sequence[float | None]) -> Spread | None:
    """Return mean and deviation of `values`; None of fewer than two, or if one was not measured."""
    known = [value for value in values if value is not None]
    if len(known) < max(2, len(values)):
        return None
    return Spread(mean=fmean(known), sd=stdev(known), min=min(known), max=max(known))
