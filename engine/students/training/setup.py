"""Starts a training in one worker: the model, the examples, DeepSpeed, and what a checkpoint restores."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from engine.contract.students import Student
from engine.errors import InputError
from engine.records.student import TrainingSetup
from engine.rows import EXAMPLE, PREFERENCE
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from engine.students import objectives
from engine.students.data import preflight
from engine.students.data.pack import CURRICULUM_COLUMNS, Packed, iterate, pack
from engine.students.data.pairs import COLUMNS
from engine.students.export import huggingface
from engine.students.init import prune
from engine.students.init.initial import initial
from engine.students.init.tokenizer import build_tokenizer
from engine.students.objectives.hidden_source import HiddenSource
from engine.students.objectives.marks import marked
from engine.students.training import preferences, zero
from engine.students.training.checkpoint_state import Progress
from engine.students.training.loss_module import LossModule
from engine.students.training.passes import capture_reference
from engine.students.training.state import BEST, SPLITS, Training, TrainSpec, WorkerContext


def setup(spec: TrainSpec, worker: WorkerContext, scratch: Path) -> Training:
    """Load model and examples, start DeepSpeed, and restore the checkpoint `worker.resume` if there is one."""
    student = spec.student
    torch.manual_seed(student.seed)
    examples = load_examples(spec)
    pruned = initial(spec, trimmed_tokenizer(spec, examples, scratch))
    pruned.model.set_attn_implementation(zero.BACKENDS[spec.accelerator].attention)
    if worker.rank == 0 and worker.resume is None:
        huggingface.verify(pruned, scratch)
    objectives, tokenizer = student.objectives, pruned.tokenizer
    pairs = preferences.load(read(spec, "preferences", PREFERENCE, COLUMNS), tokenizer, student) if objectives.reads_pairs else None
    splits = pairs.chosen if pairs and pairs.is_alone else pack_examples(spec, examples, tokenizer)
    progress = Progress(
        setup=TrainingSetup(
            parameters=prune.parameters(pruned.model),
            source_parameters=pruned.source_parameters,
            source_layers=pruned.source_layers,
            examples={name: len(split) for name, split in splits.items()},
            too_long=sum(split.too_long for split in splits.values()),
            preferences={name: split.audit for name, split in pairs.splits.items()} if pairs else {},
        )
    )
    source = None
    if objectives.hidden and "hidden" in objectives.active:
        source = HiddenSource.load(Path(spec.source), pruned.model, tokenizer, objectives.hidden).to(worker.device)
    net = LossModule(pruned.model, objectives, source).to(worker.device)
    engine = zero.start(net, student, accelerator=spec.accelerator)
    training = Training(spec, worker, pruned, engine, splits, progress, scratch, time.monotonic(), pairs)
    if worker.resume:
        restore(training, worker.resume)
    elif pairs:
        capture_reference(training)
    return training


def trimmed_tokenizer(spec: TrainSpec, examples: dict[str, pa.Table], scratch: Path) -> Any:
    """Return the tokenizer that is trimmed to the texts of `examples`; None if the student keeps the whole vocabulary."""
    if not spec.student.init.vocabulary:
        return None
    rows = (row for table in examples.values() for row in iterate(table))
    texts = (text for row in rows for text in (*(turn["content"] for turn in row["messages"]), row["target"]))
    build_tokenizer(spec.student.init, Path(spec.source), texts, scratch / "tokenizer")
    return preflight.load(scratch / "tokenizer")


def pack_examples(spec: TrainSpec, examples: dict[str, pa.Table], tokenizer: Any) -> dict[str, Packed]:
    """Return the examples of each split as token ids.

    Raises:
        InputError: a split has nothing to learn.
    """
    student = spec.student
    splits = {
        name: marked(pack(table, tokenizer, max_tokens=student.max_tokens, curriculum=student.curriculum), student.objectives)
        for name, table in examples.items()
    }
    for name, split in splits.items():
        check_split(name, split, student)
        if student.objectives.reads_capture and split.teacher is None:
            raise InputError(
                f"student {student.name}: {', '.join(student.objectives.active)} reads the teacher's distribution, and none was "
                "captured for its examples. Write the section `capture` in the contract, and run again."
            )
    return splits


def check_split(name: str, split: Packed, student: Student) -> None:
    """Raise InputError if nothing can be learned from the split, or validated on it."""
    if split.weight(np.arange(len(split))):
        return
    if split.too_long and not len(split):
        why = f"all {split.too_long} are longer than {student.max_tokens} tokens. Raise students.{student.name}.max_tokens"
    else:
        why = f"the weights of its {len(split)} examples are all 0. Raise the weights of curation"
    raise InputError(f"student {student.name}: no {name} example is left: {why}, or give shorter or more prompts and answers.")


def load_examples(spec: TrainSpec) -> dict[str, pa.Table]:
    """Return the examples of each split, in the order of their ids: the columns that objectives and curriculum read."""
    wanted = objectives.columns(spec.student.objectives.active)
    columns = {"example_id", "split", *CURRICULUM_COLUMNS, "kind", *wanted}
    rows = read(spec, "examples", EXAMPLE, sorted(columns)).sort_by("example_id")
    return {name: rows.filter(pc.field("split") == name) for name in SPLITS}


def read(spec: TrainSpec, table: str, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    """Return `columns` of a table of the dataset."""
    dataset = load_artifact(Folder(spec.dataset))
    assert dataset is not None, f"{spec.dataset} has no record"
    return dataset.read(table, schema, list(columns))


def restore(training: Training, folder: Path) -> None:
    """Continue from the checkpoint `folder`."""
    training.progress = progress = Progress.read(folder)
    if training.preferences:
        training.preferences.restore(folder)
    if not progress.is_over:
        zero.load(training.engine, folder)
        progress.resumed_from.append(progress.step)
    if training.worker.rank == 0 and progress.best is not None:
        shutil.copytree(folder / BEST, training.scratch / BEST)
        if training.pruned.adapter is not None and not progress.is_over:
            huggingface.write_merged(training.pruned, training.scratch / BEST, dtype=training.spec.student.dtype)
