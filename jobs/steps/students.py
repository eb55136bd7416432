"""Examples in, one trained student out, as a folder that any Hugging Face tool loads."""

from pathlib import Path

from engine.contract.renames import older_json
from engine.contract.students import PLACEMENT, Student
from engine.errors import InputError, ModelError
from engine.inference.identity import fingerprint
from engine.inference.locate import locate
from engine.records.student import StudentMetrics, TrainingSetup, ValidationLoss
from engine.rows import EXAMPLE, STEP, content_id, from_rows
from engine.runs.job import JobContext
from engine.storage.artifact import Artifact, RowCounts
from engine.storage.folder import Folder
from engine.students.init import prune
from engine.students.init.tokenizer import key_of
from engine.students.training import launch
from engine.students.training.checkpoint_state import Progress
from engine.students.training.state import BEST, SPLITS, TrainSpec

CAPTURE = "capture"
"""Artifact that a student needs if one of its objectives reads the teacher's distribution."""


def run(context: JobContext) -> RowCounts:
    """Train the student that the job is named after on the examples that the job needs; export its best weights.

    Raises:
        InputError: the dataset has no training or no validation examples.
        ModelError: the source model cannot be pruned as ordered, or training failed.
    """
    student = context.contract.student(context.job.name.rpartition("/")[2])
    data, tokens = (context.artifact(name) for name in context.job.needs[:2])
    source = locate(student.init.prune.source, root=context.root, home=context.models)
    prune.check_layers(student.init.prune.layers, prune.count_layers(source), source)
    check_examples(context, data)
    spec = TrainSpec(
        student=student,
        source=str(source.resolve()),
        dataset=absolute(data.folder),
        accelerator=launch.accelerator(context.profile.trainer),
        tokens=absolute(tokens.folder),
        tokenizer=key_of(tokens, student.init),
        capture=absolute(context.artifact(CAPTURE).folder) if CAPTURE in context.job.needs else "",
    )
    location = checkpoints(context, student, source, data, context.artifact(CAPTURE) if spec.capture else None)
    with launch.trained(spec, context.profile.trainer, location, context.progress) as folder:
        progress = Progress.read(folder)
        if progress.best is None:
            raise ModelError(
                f"student {student.name}: none of its validation losses is a number, so there is no best model. Lower "
                f"students.{student.name}.learning_rate, or set its dtype to float32, and run again."
            )
        copy(folder / BEST, context.writer.folder / "model")
    for change in progress.resized:
        context.log(f"{context.job.name}: went on from step {change.step} with {change.after} workers instead of {change.before}")
    curve = from_rows([{"student": student.name, **entry} for entry in progress.curve], STEP)
    context.writer.put("steps", curve, STEP)
    assert progress.setup is not None, "the loop writes it with its first checkpoint"
    context.writer.metrics = metrics(student, progress, progress.setup)
    examples = progress.setup.examples
    return RowCounts(
        data.table("examples").rows,
        {"trained": examples["train"], "validation": examples["validation"], "too_long": progress.setup.too_long},
    )


def check_examples(context: JobContext, dataset: Artifact) -> None:
    """Raise InputError if the dataset has no training or no validation examples."""
    present = set(dataset.read("examples", EXAMPLE, ["split"])["split"].unique().to_pylist())
    for split in SPLITS:
        if split not in present:
            raise InputError(
                f"{dataset.folder}: has no {split} examples, and {context.job.name} needs some. `rayleigh status` shows where the "
                "rows went. Loosen judges.accept or curation, raise curation.pick.validation, or give more prompts; then delete "
                "the dataset and run again."
            )


def checkpoints(
    context: JobContext, student: Student, source: Path, dataset: Artifact, capture: Artifact | None = None
) -> launch.CheckpointLocation:
    """Return where this training keeps its checkpoints: the name is a hash of data, recipe, source model and capture.

    The name of earlier versions, whose recipe had the keys of PLACEMENT, is kept where a training began under it.
    """
    storage = context.ledger / "checkpoints" / student.name
    inputs = [fingerprint(source), *([capture.fingerprint] if capture else [])]
    names = [
        content_id(dataset.fingerprint, older_json(student, "students.*", exclude={"name", *left_out}), *inputs)
        for left_out in ((), PLACEMENT)
    ]
    return launch.CheckpointLocation(absolute(storage), next(filter(storage.exists, names), names[-1]))


def absolute(folder: Folder) -> str:
    """Return the path or URL of `folder`; workers have another current folder."""
    return folder.path if folder.is_local else folder.url


def copy(model: Path, target: Folder) -> None:
    """Copy the files of the folder `model` into `target`."""
    for path in sorted(model.iterdir()):
        target.write(path.name, path.read_bytes())


def metrics(student: Student, progress: Progress, setup: TrainingSetup) -> StudentMetrics:
    """Return the metrics of a finished training."""
    losses = [entry["loss"] for entry in progress.curve if entry["split"] == "validation"]
    assert progress.best is not None, "`run` refuses a training without one"
    return StudentMetrics(
        name=student.name,
        parameters=setup.parameters,
        source=student.init.prune.source,
        source_parameters=setup.source_parameters,
        source_layers=setup.source_layers,
        layers=list(student.init.prune.layers),
        zero=student.zero,
        workers=student.workers,
        validation_loss=ValidationLoss(final=losses[-1], best=progress.best, best_step=progress.best_step),
        steps=progress.step,
        tokens=progress.tokens,
        seconds=round(progress.seconds, 1),
        stopped_early=progress.stopped_early,
        resumed_from=progress.resumed_from,
        resized=tuple(progress.resized),
    )
