"""Examples in, one trained student out, as a folder that any Hugging Face tool loads."""

from pathlib import Path
from typing import Any

from engine.contract.students import Student
from engine.errors import InputError
from engine.inference.identity import fingerprint
from engine.inference.locate import locate
from engine.rows import EXAMPLE, STEP, content_id, from_rows
from engine.runs.job import JobContext
from engine.storage.artifact import Artifact, RowCounts
from engine.storage.shards import Folder
from engine.students import launch, loop, prune
from engine.students.checkpoint_state import Progress


def run(context: JobContext) -> RowCounts:
    """Train the student that the job is named after on what the job needs; the best validation's weights are what it becomes."""
    student = context.contract.student(context.job.name.rpartition("/")[2])
    data = context.artifact(context.job.needs[0])
    source = locate(student.init.prune.source, root=context.root, home=context.models)
    prune.check_layers(student.init.prune.layers, prune.count_layers(source), source)
    check_examples(context, data)
    spec = loop.TrainSpec(
        student=student,
        source=str(source.resolve()),
        dataset=absolute(data.folder),
        accelerator=launch.accelerator(context.profile.trainer),
    )
    with launch.trained(spec, context.profile.trainer, place(context, student, source, data), context.progress) as folder:
        progress = Progress.read(folder)
        copy(folder / loop.BEST, context.writer.folder / "model")
    curve = from_rows([{"student": student.name, **entry} for entry in progress.curve], STEP)
    context.writer.put("steps", curve, STEP)
    context.writer.metrics = metrics(student, progress)
    examples = progress.metrics["examples"]
    return RowCounts(
        data.table("examples").rows,
        {"trained": examples["train"], "validation": examples["validation"], "too_long": progress.metrics["too_long"]},
    )


def check_examples(context: JobContext, dataset: Artifact) -> None:
    """Raise InputError if there is nothing to learn, or nothing to watch the learning by."""
    found = set(dataset.read("examples", EXAMPLE, ["split"])["split"].unique().to_pylist())
    for split in loop.SPLITS:
        if split not in found:
            raise InputError(
                f"{dataset.folder}: has no {split} examples, and {context.job.name} needs some. `rayleigh status` says where the "
                "rows went. Loosen judges.accept or curation, raise curation.pick.validation, or give more prompts; then delete "
                "the dataset and run again."
            )


def place(context: JobContext, student: Student, source: Path, dataset: Artifact) -> launch.Place:
    """Return where this very training keeps its checkpoints: other data or another recipe is another place."""
    recipe = student.model_dump_json(exclude={"name"})
    name = content_id(dataset.fingerprint, recipe, fingerprint(source))
    return launch.Place(absolute(context.ledger / "checkpoints" / student.name), name)


def absolute(folder: Folder) -> str:
    """Return where `folder` is, whatever the current folder of a worker."""
    return folder.path if folder.is_local else folder.url


def copy(model: Path, target: Folder) -> None:
    """Put the files of the folder `model` into `target`."""
    for path in sorted(model.iterdir()):
        target.write(path.name, path.read_bytes())


def metrics(student: Student, progress: Progress) -> dict[str, Any]:
    """Return what the report says of a training."""
    losses = [entry["loss"] for entry in progress.curve if entry["split"] == "validation"]
    return {
        "name": student.name,
        "parameters": progress.metrics["parameters"],
        "source": student.init.prune.source,
        "source_parameters": progress.metrics["source_parameters"],
        "source_layers": progress.metrics["source_layers"],
        "layers": list(student.init.prune.layers),
        "zero": student.zero,
        "workers": student.workers,
        "validation_loss": {"final": losses[-1], "best": progress.best, "best_step": progress.best_step},
        "steps": progress.step,
        "tokens": progress.tokens,
        "seconds": round(progress.seconds, 1),
        "stopped_early": progress.stopped_early,
        "resumed_from": progress.resumed_from,
    }
