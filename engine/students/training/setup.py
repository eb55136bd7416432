"""Starts a training in one worker: the model, the examples, DeepSpeed, and what a checkpoint restores."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from engine.contract.objectives import CAPTURED
from engine.contract.students import Student
from engine.errors import InputError
from engine.records.capture import CaptureMetrics
from engine.records.student import Resized, TrainingSetup
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.folder import Folder
from engine.students.data import capture_files, flat, preflight
from engine.students.data.pack import Packed
from engine.students.export import huggingface
from engine.students.init import prune
from engine.students.init.initial import initial
from engine.students.init.tokenizer import fetch
from engine.students.objectives import blend
from engine.students.objectives.hidden_source import HiddenSource
from engine.students.objectives.marks import marked
from engine.students.training import packing, preferences, zero
from engine.students.training.checkpoint_state import Progress
from engine.students.training.frozen import cast_once
from engine.students.training.loss_module import LossModule
from engine.students.training.passes import capture_reference
from engine.students.training.recovery import shrunk
from engine.students.training.state import BEST, SPLITS, Training, TrainSpec, WorkerContext


def setup(spec: TrainSpec, worker: WorkerContext, scratch: Path) -> Training:
    """Load model and examples, start DeepSpeed, and restore the checkpoint `worker.resume` if there is one."""
    student = spec.student
    torch.manual_seed(student.seed)
    tokens = artifact(spec.tokens)
    own = preflight.load(fetch(tokens, spec.tokenizer, scratch / "tokenizer")) if student.init.vocabulary else None
    pruned = initial(spec, own)
    pruned.model.set_attn_implementation(zero.BACKENDS[spec.accelerator].attention)
    pairs = load_pairs(spec, pruned)
    splits = pairs.chosen if pairs and pairs.is_alone else load_examples(spec, tokens, pruned)
    if student.init.shrink:
        pruned = shrunk(spec, worker, pruned, splits, scratch)
    if worker.rank == 0 and worker.resume is None:
        huggingface.verify(pruned, scratch)
    if student.packing and not (pairs and pairs.is_alone):
        packing.check(pruned.model, splits["train"], student.name)
    progress = Progress(
        setup=TrainingSetup(
            parameters=prune.parameters(pruned.model),
            source_parameters=pruned.source_parameters,
            source_layers=pruned.source_layers,
            examples={name: len(split) for name, split in splits.items()},
            too_long=sum(split.too_long for split in splits.values()),
            shape=pruned.shape,
            preferences={name: split.audit for name, split in pairs.splits.items()} if pairs else {},
            covered={name: round(share, 6) for name, split in splits.items() if (share := covered(split, student)) is not None},
        )
    )
    training = start(spec, worker, pruned, splits, progress, scratch)
    training.preferences = pairs
    if worker.resume:
        restore(training, worker.resume)
    elif pairs:
        capture_reference(training)
    training.progress.workers = worker.world
    return training


def start(
    spec: TrainSpec, worker: WorkerContext, pruned: prune.PrunedModel, splits: dict[str, Packed], progress: Progress, scratch: Path
) -> Training:
    """Start DeepSpeed around the model and its objectives, with the weights of `worker.resume` if there is one."""
    objectives, source = spec.student.objectives, None
    if spec.student.zero < 3:
        cast_once(pruned.model)
    if objectives.hidden and "hidden" in objectives.active:
        source = HiddenSource.load(spec.source_folder, pruned.model, pruned.tokenizer, objectives.hidden).to(worker.device)
    policy = spec.student.on_policy if spec.round and spec.student.on_policy and spec.student.on_policy.rewards else None
    net = LossModule(pruned.model, objectives, source, policy).to(worker.device)
    if worker.resume:
        zero.load_weights(net, worker.resume)
    engine = zero.start(net, spec.student, accelerator=spec.accelerator)
    return Training(spec, worker, pruned, engine, splits, progress, scratch, time.monotonic())


def load_examples(spec: TrainSpec, tokens: Artifact, pruned: prune.PrunedModel) -> dict[str, Packed]:
    """Return the examples of each split, with all that the student's objectives read of them.

    Raises:
        InputError: a split has nothing to learn, or the capture covers none of it.
    """
    student = spec.student
    capture = artifact(spec.capture) if spec.capture else None
    splits = {}
    for name in SPLITS:
        split = flat.load(tokens, spec.tokenizer, split=name, max_tokens=student.max_tokens, curriculum=student.curriculum)
        if capture:
            split = replace(split, teacher=capture_files.load(capture, split, pruned.tokenizer, key=spec.tokenizer))
        splits[name] = split = marked(split, student.objectives)
        check_split(name, flat.Counts.of(split), student)
        if student.objectives.reads_capture and split.teacher is None:
            raise InputError(
                f"student {student.name}: {', '.join(student.objectives.active)} reads the teacher's distribution, and none was "
                "captured for its examples. Write the section `capture` in the contract, and run again."
            )
        if capture and covered(split, student) == 0:
            raise InputError(
                f"student {student.name}: {', '.join(student.objectives.active)} reads the teacher's distribution, and no target "
                f"token of the {name} split has one, so that nothing would be learned from it: {reach(capture, spec.tokenizer)}"
            )
    return splits


def covered(split: Packed, student: Student) -> float | None:
    """Return the share of the target tokens of `split`, by weight, whose distribution of the teacher is used: 0 to 1.

    Only examples for which an objective that reads the distribution has a weight count; None if there are none.
    """
    if split.teacher is None or not student.objectives.reads_capture:
        return None
    names = blend.active(student.objectives)
    reads = np.array([any(row[names.index(name)] for name in CAPTURED if name in names) for row in blend.table(student.objectives)])
    weights = split.weights.astype(np.float64) * reads[0 if split.blends is None else split.blends]
    rows = np.flatnonzero(split.learned)
    total = float(weights @ split.learned)
    used = np.add.reduceat(split.teacher.gate, split.target_starts[rows], dtype=np.int64)  # of each example that has a target
    return float(weights[rows] @ used) / total if total else None


def reach(capture: Artifact, key: str) -> str:
    """Return in words how much the artifact `capture` covers for the tokenizer `key`, and what helps."""
    counts, shares = capture.record.row_counts.rows_out, capture.metrics(CaptureMetrics).aligned
    asked = sum(number for label, number in counts.items() if label != "copies")
    lost = ", ".join(f"{number} {label}" for label, number in counts.items() if label not in ("captured", "copies"))
    laid = f"; {shares[key]:.1%} of the tokens of a sample can be laid on those of the student" if key in shares else ""
    return (
        f"{counts.get('captured', 0)} of {asked} targets were scored ({lost or 'none lost'}){laid}. `error` in the table captured "
        f"of {capture.folder} says what was lost: raise budget.teacher_tokens or the teacher's max_model_len, take a student with "
        "the teacher's tokenizer, or set capture.gate: none; then delete the capture and run again: what is paid is kept."
    )


def load_pairs(spec: TrainSpec, pruned: prune.PrunedModel) -> preferences.Preferences | None:
    """Return the preference pairs of the dataset; None if no objective reads them."""
    if not spec.student.objectives.reads_pairs:
        return None
    return preferences.load(artifact(spec.dataset), spec.tokenizer, pruned.tokenizer, spec.student)


def check_split(name: str, found: flat.Counts, student: Student) -> None:
    """Raise InputError if nothing can be learned from the split, or validated on it."""
    if found.weight:
        return
    if found.too_long and not found.kept:
        why = f"all {found.too_long} are longer than {student.max_tokens} tokens. Raise students.{student.name}.max_tokens"
    else:
        why = f"the weights of its {found.kept} examples are all 0. Raise the weights of curation"
    raise InputError(f"student {student.name}: no {name} example is left: {why}, or give shorter or more prompts and answers.")


def restore(training: Training, folder: Path) -> None:
    """Continue from the checkpoint `folder`."""
    training.progress = progress = Progress.read(folder)
    if training.preferences:
        training.preferences.restore(folder)
    if not progress.is_over:
        zero.load(training.engine, folder)
        progress.resumed_from.append(progress.step)
        if progress.workers not in (0, training.worker.world):
            progress.resized.append(Resized(step=progress.step, before=progress.workers, after=training.worker.world))
    if training.worker.rank == 0 and progress.best is not None:
        shutil.copytree(folder / BEST, training.scratch / BEST)
        if training.pruned.adapter is not None and not progress.is_over:
            huggingface.write_merged(training.pruned, training.scratch / BEST, dtype=training.spec.student.dtype)


def artifact(url: str) -> Artifact:
    """Return the finished artifact at `url`."""
    found = load_artifact(Folder(url))
    assert found is not None, f"{url} has no record"
    return found
