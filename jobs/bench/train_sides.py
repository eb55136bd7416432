"""The sides of `rayleigh bench train` that are this engine's own: the loop with DeepSpeed, the same without, and other objectives.

Each serves rounds in a process of its own (`turns.Worker`), on one thread per CPU of a trainer. A round is the same batches of the
same examples for every side, in the order of an epoch of the student.
"""

import gc
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.contract.objectives import Objectives
from jobs.bench.turns import Round

if TYPE_CHECKING:
    import torch

    from engine.students.data.pack import Packed
    from engine.students.training.state import Training, TrainSpec

WARM_UP = 2  # steps of the round that is not measured
OTHERS = {
    "forward_kl": Objectives(sft=0.0, forward_kl=1.0),  # type: ignore[arg-type]  # a number is its weight
    "sft + forward_kl": Objectives(sft=0.5, forward_kl=0.5),  # type: ignore[arg-type]
}
"""Way -> objectives, beside those of `sft` alone."""


@dataclass(frozen=True)
class Task:
    """What all sides train; picklable."""

    specs: "tuple[TrainSpec, ...]"
    """The student that is measured comes first; `students` trains all."""
    steps: int
    captured: str = ""
    """Folder of the artifact `capture` for objectives that read one."""

    @property
    def spec(self) -> "TrainSpec":
        """The student that is measured."""
        return self.specs[0]


def batches(packed: "Packed", spec: "TrainSpec", steps: int) -> list[np.ndarray]:
    """Return the rows of the first `steps` batches of a training, epoch after epoch; -1 pads."""
    from engine.students.data.pack import epoch_batches

    found: list[np.ndarray] = []
    epoch = 0
    while len(found) < steps:
        found += list(epoch_batches(packed, size=spec.student.batch_size, seed=spec.student.seed, epoch=epoch))
        epoch += 1
    return found[:steps]


def tokens_of(packed: "Packed", rows: Sequence[np.ndarray]) -> int:
    """Return the tokens of examples, prompt and target, without what pads them."""
    return int(sum(packed.lengths[each[each >= 0]].sum() for each in rows))


def serve(pipe: Connection, ways: Iterator[dict[str, Round]], started: float) -> None:
    """Send a dict of rounds for each request; `ways` has been advanced past the round that warms up."""
    next(ways)
    pipe.send(time.perf_counter() - started)
    while pipe.recv() is not None:
        pipe.send(next(ways))


def recipe(pipe: Connection, _: int, profile: str, *, task: Task) -> None:
    """The loop of a student with DeepSpeed, without Ray."""
    started = time.perf_counter()
    join(task.spec)
    with tempfile.TemporaryDirectory() as scratch:
        training = set_up(task.spec, Path(scratch))

        def rounds() -> Iterator[dict[str, Round]]:
            for steps in lengths(task.steps):
                yield {"recipe": stepped(training, steps)}

        serve(pipe, rounds(), started)


def objectives(pipe: Connection, _: int, profile: str, *, task: Task) -> None:
    """`sft` and other objectives in one process: a step of each on every batch, in turn."""
    started = time.perf_counter()
    join(task.spec)
    with tempfile.TemporaryDirectory() as scratch:
        specs = {"sft": with_objectives(task, Objectives()), **{name: with_objectives(task, each) for name, each in OTHERS.items()}}
        trainings = {name: set_up(spec, Path(scratch, str(at))) for at, (name, spec) in enumerate(specs.items())}

        def rounds() -> Iterator[dict[str, Round]]:
            for steps in lengths(task.steps):
                rows = batches(trainings["sft"].splits["train"], task.spec, steps)
                seconds = dict.fromkeys(trainings, 0.0)
                for each in rows:
                    for name, training in trainings.items():
                        seconds[name] += timed(training, each)
                count = tokens_of(trainings["sft"].splits["train"], rows)
                yield {name: Round(count, value) for name, value in seconds.items()}

        serve(pipe, rounds(), started)


def students(pipe: Connection, _: int, profile: str, *, task: Task) -> None:
    """All students one after the other, from loading to the last step: with `sft` alone, and from one capture."""
    started = time.perf_counter()
    join(task.spec)

    def rounds() -> Iterator[dict[str, Round]]:
        for steps in lengths(task.steps):
            found = {"students": Round(0, 0.0), "students, captured": Round(0, 0.0)}
            for at in range(len(task.specs)):
                for name, each in (("students", Objectives()), ("students, captured", OTHERS["sft + forward_kl"])):
                    spec = with_objectives(replace(task, specs=task.specs[at:]), each)
                    with tempfile.TemporaryDirectory() as scratch:
                        began = time.perf_counter()
                        count = stepped(set_up(spec, Path(scratch)), steps).count
                        seconds = time.perf_counter() - began
                    found[name] = Round(found[name].count + count, found[name].seconds + seconds)
                    gc.collect()
            yield found

    serve(pipe, rounds(), started)


def bare(pipe: Connection, _: int, profile: str, *, task: Task) -> None:
    """The loop of a student as a plain script: torch's AdamW and autocast, no DeepSpeed, no Ray. A round begins anew."""
    started = time.perf_counter()

    def rounds() -> Iterator[dict[str, Round]]:
        for steps in lengths(task.steps):
            with tempfile.TemporaryDirectory() as scratch:
                yield _bare_round(task.spec, steps, Path(scratch))

    serve(pipe, rounds(), started)


def _bare_round(spec: "TrainSpec", steps: int, scratch: Path) -> dict[str, Round]:
    from engine.students.export import huggingface

    began = time.perf_counter()
    script = Bare(spec, scratch)
    loaded = time.perf_counter()
    rows, seconds = batches(script.splits["train"], spec, steps), 0.0
    epoch_steps = -(-len(script.splits["train"]) // spec.student.batch_size)
    for number, each in enumerate(rows, 1):
        start = time.perf_counter()
        script.step(each, number - 1, steps)
        seconds += time.perf_counter() - start
        if number % epoch_steps == 0 or number == steps:
            script.validate()
            huggingface.write(script.pruned, script.net.state_dict(), scratch / "best", dtype=spec.student.dtype)
    count, end = tokens_of(script.splits["train"], rows), time.perf_counter()
    return {"bare": Round(count, seconds), "bare, training": Round(count, end - loaded), "bare, whole": Round(count, end - began)}


class Bare:
    """A training as a script of some lines has it: the same model, loss, examples and order as the loop's."""

    def __init__(self, spec: "TrainSpec", scratch: Path) -> None:
        import torch

        from engine.students.data import preflight
        from engine.students.init.initial import initial
        from engine.students.init.tokenizer import fetch
        from engine.students.training import setup, zero
        from engine.students.training.frozen import cast_once
        from engine.students.training.loss_module import LossModule

        student, self.spec, self.device = spec.student, spec, device(spec)
        torch.manual_seed(student.seed)
        tokens = setup.artifact(spec.tokens)
        own = preflight.load(fetch(tokens, spec.tokenizer, scratch / "tokenizer")) if student.init.vocabulary else None
        self.pruned = initial(spec, own)
        self.pruned.model.set_attn_implementation(zero.BACKENDS[spec.accelerator].attention)
        self.splits = setup.load_examples(spec, tokens, self.pruned)
        cast_once(self.pruned.model)
        self.net = LossModule(self.pruned.model, student.objectives).to(self.device)
        self.trained = [each for each in self.net.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=student.learning_rate, betas=(0.9, 0.95), weight_decay=student.weight_decay, fused=True
        )

    def step(self, rows: np.ndarray, number: int, total: int) -> float:
        """Make the optimizer step `number` of `total`; return its mean loss."""
        import torch

        from engine.students.training.schedule import learning_rate

        student, packed = self.spec.student, self.splits["train"]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(number, total, student)
        mean = 0.0
        for micro in rows.reshape(-1, student.per_device_batch):
            loss = self.loss(packed, micro) / packed.weight(rows)
            loss.backward()
            mean += loss.item()
        torch.nn.utils.clip_grad_norm_(self.trained, student.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return mean

    def loss(self, packed: "Packed", rows: np.ndarray) -> "torch.Tensor":
        """Return the summed loss of examples."""
        import torch

        from engine.students.data.pack import collate

        student = self.spec.student
        capacity = student.max_tokens if student.packing else None
        tokenizer = self.pruned.tokenizer
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        autocast = torch.autocast(self.device.type, torch.bfloat16) if student.dtype == "bfloat16" else nullcontext()
        with autocast:
            return self.net(collate(packed, rows, pad=pad, capacity=capacity).to(self.device))

    def validate(self) -> float:
        """Return the mean loss of the validation split."""
        import torch

        from engine.students.data.pack import sorted_batches

        packed = self.splits["validation"]
        self.net.eval()
        with torch.no_grad():
            rows = sorted_batches(packed, size=self.spec.student.per_device_batch)
            total = sum(float(self.loss(packed, each)) for each in rows)
        self.net.train()
        return total / packed.weight(rows[rows >= 0])


def stepped(training: "Training", steps: int) -> Round:
    """Make the first `steps` optimizer steps of an epoch, once more if they were made before."""
    rows = batches(training.splits["train"], training.spec, steps)
    seconds = sum(timed(training, each) for each in rows)
    return Round(tokens_of(training.splits["train"], rows), seconds)


def timed(training: "Training", rows: np.ndarray) -> float:
    """Make one step; return its seconds."""
    from engine.students.training import loop

    began = time.perf_counter()
    loop.step(training, rows)
    return time.perf_counter() - began


def set_up(spec: "TrainSpec", scratch: Path) -> "Training":
    """Return a training at its first step, whose checkpoints go nowhere."""
    from engine.students.training.setup import setup
    from engine.students.training.state import WorkerContext

    scratch.mkdir(exist_ok=True)
    worker = WorkerContext(0, 1, device(spec), None, lambda folder: None, lambda progress, steps: None)
    return setup(spec.as_computed, worker, scratch)


def with_objectives(task: Task, objectives: Objectives) -> "TrainSpec":
    """Return the first training of a task with other objectives, and the capture if they read one."""
    student = task.spec.student.model_copy(update={"objectives": objectives})
    return replace(task.spec, student=student, capture=task.captured if objectives.reads_capture else "")


def device(spec: "TrainSpec") -> Any:
    """Return the device of the only worker."""
    import torch

    return torch.device("cuda" if spec.accelerator == "gpu" else "cpu")


def join(spec: "TrainSpec") -> None:
    """Make this process the only worker of a training, as Ray Train does it for each of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    from engine.students.training import zero

    backend = zero.BACKENDS[spec.accelerator]
    where = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({name: str(value) for name, value in where.items()}, **backend.environment)
    import torch.distributed as dist

    dist.init_process_group(backend.communication)


def lengths(steps: int) -> Iterator[int]:
    """Yield the steps of each round: few of the first, which is not measured."""
    yield min(WARM_UP, steps)
    while True:
        yield steps
