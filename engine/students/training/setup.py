"""Starts a training in one worker: the model, the examples, DeepSpeed, and what a checkpoint restores."""

import shutil
import time
from pathlib import Path

import numpy as np
import torch

from engine.contract.students import Student
from engine.errors import InputError
from engine.records.student import Resized, TrainingSetup
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from engine.students.data import flat, preflight
from engine.students.data.pack import Packed
from engine.students.export import huggingface
from engine.students.init import prune
from engine.students.init.initial import initial
from engine.students.init.tokenizer import fetch
from engine.students.training import packing, zero
from engine.students.training.checkpoint_state import Progress
from engine.students.training.loss_module import LossModule
from engine.students.training.state import BEST, SPLITS, Training, TrainSpec, WorkerContext


def setup(spec: TrainSpec, worker: WorkerContext, scratch: Path) -> Training:
    """Load model and examples, start DeepSpeed, and restore the checkpoint `worker.resume` if there is one."""
    student = spec.student
    torch.manual_seed(student.seed)
    tokens = load_artifact(Folder(spec.tokens))
    assert tokens is not None, f"{spec.tokens} has no record"
    own = preflight.load(fetch(tokens, spec.tokenizer, scratch / "tokenizer")) if student.init.vocabulary else None
    pruned = initial(spec, own)
    pruned.model.set_attn_implementation(zero.BACKENDS[spec.accelerator].attention)
    if worker.rank == 0 and worker.resume is None:
        huggingface.verify(pruned, scratch)
    splits = {
        name: flat.load(tokens, spec.tokenizer, split=name, max_tokens=student.max_tokens, curriculum=student.curriculum)
        for name in SPLITS
    }
    for name, split in splits.items():
        check_split(name, split, student)
    if student.packing:
        packing.check(pruned.model, splits["train"], student.name)
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
    if worker.resume:
        zero.load_weights(net, worker.resume)
    engine = zero.start(net, student, accelerator=spec.accelerator)
    training = Training(spec, worker, pruned, engine, splits, progress, scratch, time.monotonic())
    if worker.resume:
        restore(training, worker.resume)
    training.progress.workers = worker.world
    return training


def check_split(name: str, split: Packed, student: Student) -> None:
    """Raise InputError if nothing can be learned from the split, or validated on it."""
    if split.weight(np.arange(len(split))):
        return
    if split.too_long and not len(split):
        why = f"all {split.too_long} are longer than {student.max_tokens} tokens. Raise students.{student.name}.max_tokens"
    else:
        why = f"the weights of its {len(split)} examples are all 0. Raise the weights of curation"
    raise InputError(f"student {student.name}: no {name} example is left: {why}, or give shorter or more prompts and answers.")


def restore(training: Training, folder: Path) -> None:
    """Continue from the checkpoint `folder`."""
    training.progress = progress = Progress.read(folder)
    if not progress.is_over:
        zero.load(training.engine, folder)
        progress.resumed_from.append(progress.step)
        if progress.workers not in (0, training.worker.world):
            progress.resized.append(Resized(step=progress.step, before=progress.workers, after=training.worker.world))
    if training.worker.rank == 0 and progress.best is not None:
        shutil.copytree(folder / BEST, training.scratch / BEST)
        if training.pruned.adapter is not None and not progress.is_over:
            huggingface.write_merged(training.pruned, training.scratch / BEST, dtype=training.spec.student.dtype)
