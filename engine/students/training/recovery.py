"""The cuts of `init.shrink`, with training between them: each step's model lies in the folder of the training's checkpoints.

A step is redone only if a crash came before its model was written. It begins with the model of the step before, as that was
written, and depends on nothing else but seed and examples; so a resumed training has the weights of an unbroken one. Rank 0
measures and cuts; all ranks train.
"""

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from engine.contract.shrink import Shrink
from engine.contract.students import Student
from engine.errors import ModelError
from engine.inference.turn_end import padding
from engine.records.student import StudentShape
from engine.storage.folder import Folder
from engine.students.data.pack import Batch, Packed, collate, epoch_batches
from engine.students.export import huggingface
from engine.students.init import shrink, width
from engine.students.init.initial import freeze
from engine.students.init.prune import PrunedModel, load
from engine.students.training import zero
from engine.students.training.checkpoint_state import Progress
from engine.students.training.schedule import latest_decay_start
from engine.students.training.state import Training, TrainSpec, WorkerContext

STORE, RECORD = "shrink", "shape.json"
SAMPLE_BATCH = 8  # examples
SEED = 11  # of the sample, beside that of the student


class Step(NamedTuple):
    """One step: a cut to `target` parameters, or the training between two cuts."""

    name: str
    target: int | None


@dataclass
class Recovery(Training):
    """The training between two cuts: its schedule ends with its own last step."""

    steps: int = 0

    @property
    def total_steps(self) -> int:
        """Optimizer steps."""
        return self.steps

    @property
    def epochs(self) -> int:
        """One: what an objective changes over the epochs, such as the rationale's weight, it changes in the training itself."""
        return 1


@dataclass(frozen=True)
class Work:
    """What every step reads."""

    spec: TrainSpec
    worker: WorkerContext
    splits: dict[str, Packed]
    scratch: Path
    store: Folder

    @property
    def options(self) -> Shrink:
        """The section of the contract."""
        options = self.spec.student.init.shrink
        assert options is not None, "only such students come here"
        return options


def shrunk(spec: TrainSpec, worker: WorkerContext, whole: PrunedModel, splits: dict[str, Packed], scratch: Path) -> PrunedModel:
    """Return the model of the last cut of `whole`, which is in memory in float32 and has its final vocabulary.

    Steps that an earlier attempt finished are read. Every rank must call it.

    Raises:
        ModelError: the model cannot be cut, or not to so few parameters.
    """
    store = Folder(f"{worker.storage}/{STORE}" if worker.storage else str(scratch / STORE))
    work = Work(spec, worker, splits, scratch, store)
    todo = steps(whole, work.options)
    done = max((number for number, step in enumerate(todo, 1) if store.exists(f"{step.name}/{RECORD}")), default=0)
    _together(worker)
    made = _read(work, todo[done - 1], whole) if done else whole
    for number, step in enumerate(todo[done:], done):
        began = time.monotonic()
        if step.target is None:
            _recover(work, step, made, began)
        elif worker.rank == 0:
            _cut(work, step, made, began)
        _together(worker)
        made = _read(work, step, whole)
        if number and worker.rank == 0:
            store.remove(todo[number - 1].name)
    return made


def steps(whole: PrunedModel, options: Shrink) -> list[Step]:
    """Return the cuts, and the trainings between them.

    Raises:
        ModelError: the model cannot be cut, or not to so few parameters.
    """
    parts = width.anatomy(whole.model)
    shrink.check(parts, options)
    to = shrink.wanted(parts, options, source_parameters=whole.source_parameters)
    todo: list[Step] = []
    for number, target in enumerate(shrink.targets(parts.parameters(parts.shape), to, options.steps), 1):
        todo.append(Step(f"cut-{number}", target))
        if number < options.steps and options.recover_steps:
            todo.append(Step(f"recovered-{number}", None))
    return todo


def _cut(work: Work, step: Step, made: PrunedModel, began: float) -> None:
    """Cut on rank 0."""
    assert step.target is not None
    model = made.model.to(work.worker.device)
    cut = shrink.cut(model, sample(work, made), step.target, work.options)
    before = made.shape
    shape = StudentShape(
        layers=[before.layers[index] for index in cut.layers] if before else cut.layers,
        head_size=width.anatomy(cut.model).head_size,
        measure=work.options.layers,
        layer_importance=before.layer_importance if before else cut.importance.layers.tolist(),
        cuts=[*(before.cuts if before else ()), cut.record],
        recover_steps=before.recover_steps if before else 0,
        seconds=(before.seconds if before else 0.0) + time.monotonic() - began,
    )
    state = {huggingface.PREFIX + name: tensor for name, tensor in cut.model.state_dict().items()}
    _write(work, step, replace(made, model=cut.model, shape=shape), state)


def _recover(work: Work, step: Step, made: PrunedModel, began: float) -> None:
    """Train `made` for some steps with the student's own objectives; on every rank."""
    from engine.students.training import setup  # it imports this file

    count = work.options.recover_steps
    spec = replace(work.spec, student=recovering(work.spec.student, count))
    progress = Progress(phase=f"recovery {step.name.rpartition('-')[2]} of {work.options.steps - 1}")
    plain = setup.start(spec, replace(work.worker, resume=None), made, work.splits, progress, work.scratch)
    training = Recovery(**vars(plain), steps=count)
    recover(training)
    weights = zero.weights(training.engine)
    if weights is not None:
        assert made.shape is not None, "a cut came before"
        seconds, trained = made.shape.seconds + time.monotonic() - began, made.shape.recover_steps + count
        shape = made.shape.model_copy(update={"seconds": seconds, "recover_steps": trained})
        _write(work, step, replace(made, shape=shape), weights)
    training.engine.destroy()


def recover(training: Recovery) -> None:
    """Make the steps of `training`. Its rate falls as at the end of a whole training, also that of `wsd`.

    Raises:
        ModelError: the loss of a step is no number.
    """
    from engine.students.training import loop  # it imports this file

    student, progress, packed = training.spec.student, training.progress, training.splits["train"]
    while progress.step < training.steps:
        epoch, offset = divmod(progress.step, training.epoch_steps)
        batches = epoch_batches(packed, size=student.batch_size, seed=student.seed, epoch=epoch)
        if student.schedule == "wsd" and progress.step == latest_decay_start(training.steps, student):
            progress.decay_start = progress.step
        loop.step(training, batches[offset])
        if progress.has_diverged:
            raise ModelError(
                f"student {student.name}: {progress.phase}: the loss of step {progress.step} is no number. Lower "
                f"students.{student.name}.learning_rate, set its dtype to float32, or raise init.shrink.steps."
            )
        training.worker.on_step(progress, training.steps)


def recovering(student: Student, steps: int) -> Student:
    """Return `student` as it is trained for `steps` between two cuts: `warmup_ratio` holds if `warmup_steps` are as many."""
    fits = student.warmup_steps is None or student.warmup_steps < steps
    return student if fits else student.model_copy(update={"warmup_steps": None})


def sample(work: Work, made: PrunedModel) -> list[Batch]:
    """Return the training examples on which importance is measured, in batches on the worker's device."""
    packed = work.splits["train"]
    rows = np.flatnonzero((packed.weights > 0) & (packed.learned > 0))
    rng = np.random.default_rng((work.spec.student.seed, SEED))
    rows = np.sort(rng.permutation(rows)[: work.options.sample])
    rows = rows[np.argsort(packed.lengths[rows], kind="stable")]
    pad = padding(made.tokenizer)
    pieces = [rows[start : start + SAMPLE_BATCH] for start in range(0, len(rows), SAMPLE_BATCH)]
    return [collate(packed, piece, pad=pad).to(work.worker.device) for piece in pieces]


def _write(work: Work, step: Step, made: PrunedModel, weights: dict[str, torch.Tensor]) -> None:
    """Write the model of `step` for all ranks; its record comes last."""
    assert made.shape is not None
    folder = work.scratch / step.name
    huggingface.write(made, weights, folder, dtype="float32")
    target = work.store / step.name
    for path in sorted(folder.iterdir()):
        target.write(path.name, path.read_bytes(), durable=True)
    target.write(RECORD, made.shape.model_dump_json().encode(), durable=True)
    shutil.rmtree(folder)


def _read(work: Work, step: Step, whole: PrunedModel) -> PrunedModel:
    """Return what `_write` wrote."""
    source = work.store / step.name
    folder = Path(source.path)
    if not source.is_local:
        folder = work.scratch / f"{step.name}-{work.worker.rank}"
        folder.mkdir()
        for name in source.files():
            (folder / name).write_bytes(source.read(name))
    shape = StudentShape.model_validate_json(source.read(RECORD))
    made = replace(whole, model=load(folder).model, shape=shape)
    made.model.set_attn_implementation(zero.BACKENDS[work.spec.accelerator].attention)
    freeze(made, work.spec.student)
    made.model.train()
    return made


def _together(worker: WorkerContext) -> None:
    if worker.world > 1:
        dist.barrier()
