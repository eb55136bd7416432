"""The training of one on-policy round in one worker: some steps on the samples of the model as it was when the round began.

Weights go on in float32 and with Adam's moments from the checkpoint of the round before. A round has one checkpoint, at its end: a
crash costs its steps, not its samples. What is random follows from seed, round and step.
"""

import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from engine.contract.objectives import Objectives
from engine.contract.on_policy import OnPolicy
from engine.contract.students import Student
from engine.rows import content_id
from engine.storage.folder import Folder
from engine.students.data.pack import Packed, Policy, epoch_batches, sorted_batches
from engine.students.init.initial import freeze
from engine.students.init.prune import PrunedModel, load
from engine.students.on_policy import rollouts
from engine.students.training import loop, setup, zero
from engine.students.training.checkpoint_state import Progress
from engine.students.training.state import BEST, Training, TrainSpec, WorkerContext
from engine.students.training.validation import write


def run(spec: TrainSpec, worker: WorkerContext) -> None:
    """Train one round; a loss that is no number ends it. Its checkpoint holds the optimizer, and the weights in `BEST`."""
    if worker.resume:  # an earlier attempt has finished the round
        return
    order, section = spec.round, spec.student.on_policy
    assert order is not None and section is not None, "the job gives both"
    spec = replace(spec, student=student_of_round(spec.student, section, order.steps))
    with tempfile.TemporaryDirectory() as scratch:
        training = begin(spec, worker, Path(scratch))
        seed = int(content_id(spec.student.seed, "round", order.number)[:8], 16)
        for number in range(order.steps):
            epoch, offset = divmod(number, training.epoch_steps)
            batches = epoch_batches(training.splits["train"], size=spec.student.batch_size, seed=seed, epoch=epoch)
            loop.step(training, batches[offset])
            worker.on_step(training.progress, order.steps)
            if not math.isfinite(training.progress.curve[-1]["loss"]):
                break
        save(training)


def student_of_round(student: Student, section: OnPolicy, steps: int) -> Student:
    """Return `student` with the objective and the schedule of a round. The objectives of `grpo` are not used."""
    parameters = {"beta": section.beta} if section.divergence == "jsd" else {}
    divergence = {"sft": 0.0, section.divergence: {"weight": 1.0, **parameters}}
    update = {
        "objectives": Objectives() if section.rewards else Objectives.model_validate(divergence),
        "learning_rate": section.learning_rate,
        "schedule": "constant",
        "warmup_steps": 0,
        "max_steps": steps,
        "packing": False,
    }
    return student.model_copy(update=update)


def begin(spec: TrainSpec, worker: WorkerContext, scratch: Path) -> Training:
    """Load samples and model, start DeepSpeed, and restore the optimizer of the round before."""
    assert spec.round is not None, "the caller has looked"
    torch.manual_seed(spec.student.seed)
    packed = rollouts.load(Folder(spec.round.rollouts))
    reference = old = None
    if packed.policy is not None:
        if spec.round.previous and spec.student.on_policy and spec.student.on_policy.kl:
            reference = _log_probs_of(spec.round.start, spec, worker, packed, scratch)
        if spec.round.sampled_by == spec.round.start:
            old = reference
        if spec.round.sampled_by and old is None:
            old = _log_probs_of(spec.round.sampled_by, spec, worker, packed, scratch)
    previous = Path(spec.round.previous) if spec.round.previous else None
    training = _start(spec, replace(worker, resume=previous), packed, scratch)
    if previous:
        zero.load(training.engine, previous)
    if packed.policy is not None:
        old = log_probs(training, packed) if old is None else old
        policy = Policy(packed.policy.advantages, old, old if reference is None else reference)
        training.splits["train"] = replace(packed, policy=policy)
    return training


def _log_probs_of(model: str, spec: TrainSpec, worker: WorkerContext, packed: Packed, scratch: Path) -> np.ndarray:
    """Return `log_probs` of the model in the folder `model`."""
    assert spec.round is not None, "the caller has looked"
    training = _start(replace(spec, round=replace(spec.round, start=model)), replace(worker, resume=None), packed, scratch)
    found = log_probs(training, packed)
    training.engine.destroy()
    return found


def _start(spec: TrainSpec, worker: WorkerContext, packed: Packed, scratch: Path) -> Training:
    assert spec.round is not None, "the caller has looked"
    progress = Progress(phase=f"on-policy round {spec.round.number}", workers=worker.world)
    return setup.start(spec, worker, _model(spec), {"train": packed}, progress, scratch)


def _model(spec: TrainSpec) -> PrunedModel:
    assert spec.round is not None, "the caller has looked"
    made = load(Path(spec.round.start))
    made.model.set_attn_implementation(zero.BACKENDS[spec.accelerator].attention)
    freeze(made, spec.student)
    made.model.train()
    return made


def log_probs(training: Training, packed: Packed) -> np.ndarray:
    """Return the log-probability of each target token of `packed`, float32; each worker computes its share."""
    student, worker = training.spec.student, training.worker
    found = torch.zeros(int(packed.learned.sum()), device=worker.device)
    rows = sorted_batches(packed, size=student.per_device_batch * worker.world)
    training.engine.eval()
    with torch.no_grad():
        for share in rows.reshape(-1, worker.world, student.per_device_batch)[:, worker.rank]:
            tokens = torch.from_numpy(packed.tokens_of(share[share >= 0])).to(worker.device)
            found[tokens] = training.engine(training.batch(packed, share), None, None).float()
    training.engine.train()
    if worker.world > 1:
        dist.all_reduce(found)  # each number is one worker's, all others have 0
    return found.cpu().numpy()


def save(training: Training) -> None:
    """Save the round's one checkpoint. Every rank must call it."""
    training.progress.is_over = True
    training.progress.seconds = training.elapsed()
    with tempfile.TemporaryDirectory(dir=training.scratch) as name:
        folder = Path(name)
        zero.save(training.engine, folder)
        write(training, folder / BEST)
        if training.worker.rank == 0:
            training.progress.write(folder)
        training.worker.save_checkpoint(folder)
