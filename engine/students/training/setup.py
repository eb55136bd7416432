"""Starts a training in one worker: the model, the examples, DeepSpeed, and what a checkpoint restores."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from engine.contract.students import Student
from engine.errors import InputError
from engine.records.student import TrainingSetup
from engine.rows import EXAMPLE
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from engine.students import objectives
from engine.students.data import preflight
from engine.students.data.pack import CURRICULUM_COLUMNS, Packed, iterate, pack
from engine.students.export import huggingface
from engine.students.init import prune
from engine.students.init.initial import initial
from engine.students.init.tokenizer import build_tokenizer
from engine.students.training import zero
from engine.students.training.checkpoint_state import Progress
from engine.students.training.loss_module import LossModule
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
    splits = {
        name: pack(table, pruned.tokenizer, max_tokens=student.max_tokens, curriculum=student.curriculum)
        for name, table in examples.items()
    }
    for name, split in splits.items():
        check_split(name, split, student)
    progress = Progress(
        setup=TrainingSetup(
            parameters=prune.parameters(pruned.model),
            source_parameters=pruned.source_parameters,
            source_layers=pruned.source_layers,
            examples={name: len(split) for name, split in splits.items()},
            too_long=sum(split.too_long for split in splits.values()),
        )
    )
    net = LossModule(pruned.model, student.objectives.model_dump()).to(worker.device)
    engine = zero.start(net, student, accelerator=spec.accelerator)
    training = Training(spec, worker, pruned, engine, splits, progress, scratch, time.monotonic())
    if worker.resume:
        restore(training, worker.resume)
    return training


def trimmed_tokenizer(spec: TrainSpec, examples: dict[str, pa.Table], scratch: Path) -> Any:
    """Return the tokenizer that is trimmed to the texts of `examples`; None if the student keeps the whole vocabulary."""
    if not spec.student.init.vocabulary:
        return None
    rows = (row for table in examples.values() for row in iterate(table))
    texts = (text for row in rows for text in (*(turn["content"] for turn in row["messages"]), row["target"]))
    build_tokenizer(spec.student.init, Path(spec.source), texts, scratch / "tokenizer")
    return preflight.load(scratch / "tokenizer")


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
    dataset = load_artifact(Folder(spec.dataset))
    assert dataset is not None, f"{spec.dataset} has no record"
    columns = {"example_id", "split", *CURRICULUM_COLUMNS, *objectives.columns(spec.student.objectives.model_dump())}
    rows = dataset.read("examples", EXAMPLE, sorted(columns)).sort_by("example_id")
    return {name: rows.filter(pc.field("split") == name) for name in SPLITS}


def restore(training: Training, folder: Path) -> None:
    """Continue from the checkpoint `folder`."""
    training.progress = progress = Progress.read(folder)
    if not progress.is_over:
        zero.load(training.engine, folder)
        progress.resumed_from.append(progress.step)
    if training.worker.rank == 0 and progress.best is not None:
        shutil.copytree(folder / BEST, training.scratch / BEST)
        if training.pruned.adapter is not None and not progress.is_over:
            huggingface.write_merged(training.pruned, training.scratch / BEST, dtype=training.spec.student.dtype)
