"""Examples in, one trained student out, as a folder that any Hugging Face tool loads."""

from pathlib import Path

from engine.contract.renames import older_json
from engine.contract.students import Student
from engine.errors import InputError, ModelError
from engine.inference.identity import fingerprint
from engine.inference.locate import locate
from engine.records.student import StudentMetrics, TrainingSetup, ValidationLoss
from engine.rows import EXAMPLE, STEP, content_id, from_rows
from engine.runs.job import JobContext
from engine.storage.artifact import Artifact, RowCounts
from engine.storage.folder import Folder
from engine.students.init import prune
from engine.students.training import launch
from engine.students.training.checkpoint_state import Progress
from engine.students.training.state import BEST, SPLITS, TrainSpec


def run(context: JobContext) -> RowCounts:
    """Train the student that the job is named after on the examples that the job needs; export its best weights.

    Raises:
        InputError: the dataset has no training or no validation examples.
        ModelError: the source model cannot be pruned as ordered, or training failed.
    """
    student = context.contract.student(context.job.name.rpartition("/")[2])
    data = context.artifact(context.job.needs[0])
    source = locate(student.init.prune.source, root=context.root, home=context.models)
    prune.check_layers(student.init.prune.layers, prune.count_layers(source), source)
    check_examples(context, data)
    spec = TrainSpec(
        student=student,
        source=str(source.resolve()),
        dataset=absolute(data.folder),
        accelerator=launch.accelerator(context.profile.trainer),
    )
    location = checkpoints(context, student, source, data)
    with launch.trained(spec, context.profile.trainer, location, context.progress) as folder:
        progress = Progress.read(folder)
        if progress.best is None:
            raise ModelError(
                f"student {student.name}: none of its validation losses is a number, so there is no best model. Lower "
                f"students.{student.name}.learning_rate, or set its dtype to float32, and run again."
            )
        copy(folder / BEST, context.writer.folder / "model")
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


def checkpoints(context: JobContext, student: Student, source: Path, dataset: Artifact) -> launch.CheckpointLocation:
    """Return where this training keeps its checkpoints: the name is a hash of data, recipe and source model."""
    recipe = older_json(student, "students.*", exclude={"name", "exports"})  # trainings that began under older names are resumed
    name = content_id(dataset.fingerprint, recipe, fingerprint(source))
    return launch.CheckpointLocation(absolute(context.ledger / "checkpoints" / student.name), name)


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
    )
