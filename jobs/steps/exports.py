"""One trained student in, one further deployment of it out: files, and a probe that compares them with the student."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.exceptions import RayTaskError

from engine.contract.exports import Int4
from engine.contract.students import Student
from engine.distributed import ray_options
from engine.errors import ModelError
from engine.inference.engine import Chat
from engine.records.export import ExportMetrics
from engine.runs.job import JobContext
from engine.storage.artifact import Artifact, RowCounts, load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import iterate
from engine.students.export import gguf, int4
from jobs.steps.students import absolute, copy

if TYPE_CHECKING:
    from engine.students.export.make import Order


def run(context: JobContext) -> RowCounts:
    """Make the export that the job is named after, as one task with the resources of the profile's trainer.

    Raises:
        ModelError: a tool is missing or refuses the model, or the export does not agree with the student.
    """
    from engine.students.export.make import Order  # it imports torch

    _, student_name, export_name = context.job.name.split("/")
    deployment = f"{student_name}.{export_name}"
    student, export = context.contract.deployment(deployment)
    assert export is not None, "the pipeline names each export"
    trained = context.artifact(f"students/{student_name}")
    dataset = context.artifact("dataset")
    examples = examples_of(dataset, "validation", export.probe)
    packages = gguf.PACKAGES.folder(context.profile, context.models)
    order = Order(deployment, export, student.dtype, trained.fingerprint, examples, packages)
    if isinstance(export, Int4):
        calibration = examples_of(dataset, "train", export.calibration)
        order = order._replace(packages=int4.PACKAGES.folder(context.profile, context.models), calibration=calibration)
    task = ray.remote(_make).options(**ray_options.resources(context.profile.trainer))
    folders = Folder(absolute(trained.folder / "model")), Folder(absolute(context.writer.folder / "model"))
    try:
        context.writer.metrics = ray.get(task.remote(order, *folders))
    except RayTaskError as error:
        raise error.cause if isinstance(error.cause, ModelError) else error from None
    return RowCounts(1, {"exported": 1})


def examples_of(dataset: Artifact, split: str, count: int) -> list[tuple[Chat, str]]:
    """Return chat and target of `count` examples of `split`, or of all, evenly spread: the first ones may be alike.

    Of the other shards only the column `split` is read.
    """
    folder, table, is_wanted = dataset.folder / "examples", dataset.table("examples"), pc.field("split") == split
    ends = np.cumsum([len(rows.filter(is_wanted)) for rows in iterate(folder, table, ["split"])], dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    wanted = np.linspace(0, total, min(count, total), endpoint=False).astype(np.int64)
    owners = np.searchsorted(ends, wanted, side="right")
    found: list[tuple[Chat, str]] = []
    for owner in np.unique(owners):
        [shard] = iterate(folder, replace(table, shards=[table.shards[owner]]), ["messages", "target", "split"])
        rows = shard.filter(is_wanted)
        own = pa.array(wanted[owners == owner] - (ends[owner] - len(rows)))
        found += [(row["messages"], row["target"]) for row in rows.take(own).to_pylist()]
    return found


def _make(order: "Order", source: Folder, target: Folder) -> ExportMetrics:
    from engine.students.export.make import make

    with tempfile.TemporaryDirectory(prefix="rayleigh-") as scratch:
        student, exported = Path(scratch, "student"), Path(scratch, "model")
        student.mkdir()
        exported.mkdir()
        for name in source.files(deep=False):
            source.with_retries(name, partial(source.fs.get_file, f"{source.path}/{name}", str(student / name)))
        metrics = make(order, student, exported)
        copy(exported, target)
    return metrics


def exports(context: JobContext, student: Student, notes: list[str]) -> Iterator[tuple[str, Artifact]]:
    """Yield name and artifact of each export of a trained student; add a note on each that was not made, or has a flaw."""
    for export in student.exports:
        artifact, name = load_artifact(context.run / f"exports/{student.name}/{export.name}"), f"{student.name}.{export.name}"
        if artifact is None:
            notes.append(f"{name} was not made, as its export failed or has not ended, so it is in no table.")
            continue
        metrics = artifact.metrics(ExportMetrics)
        if metrics.fell_back:
            notes.append(
                f"{metrics.fell_back} tensors of {name} have another type than was ordered, as their rows do not fit its blocks: "
                f"{metrics.bits_per_weight:g} bits a weight."
            )
        if (same := metrics.probe.same_text_ids) is not None and same < 1:
            notes.append(
                f"The tokenizer inside of {name} splits {100 - 100 * same:.0f} % of the probe's prompts into other tokens than the "
                "chat template, with which the student learned: send it token ids."
            )
        yield name, artifact
