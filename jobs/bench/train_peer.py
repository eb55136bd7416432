"""The side of `rayleigh bench train` that trains with TRL's SFTTrainer: the same token ids, with its own loop and defaults."""

import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from jobs.bench.train_sides import Task, batches, lengths, serve, tokens_of
from jobs.bench.turns import Round


class Way(NamedTuple):
    """How SFTTrainer is set up."""

    frozen: bool
    """Train the same parameters as the recipe; else all, as users do."""
    checkpointing: bool
    """Gradient checkpointing: TRL's default, which saves memory and costs a second forward pass."""


WAYS = {
    "trl": Way(frozen=False, checkpointing=True),
    "trl, no checkpointing": Way(frozen=False, checkpointing=False),
    "trl, same parameters": Way(frozen=True, checkpointing=False),
}


def trl(pipe: Connection, _: int, profile: str, *, task: Task) -> None:
    """SFTTrainer in each of WAYS, one after the other, with a model of its own for each."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        peers = {name: Peer(task, way, Path(scratch)) for name, way in WAYS.items()}

        def rounds() -> Iterator[dict[str, Round]]:
            for steps in lengths(task.steps):
                yield {name: peer.round(steps) for name, peer in peers.items()}

        serve(pipe, rounds(), started)


class Peer:
    """A model and the examples of a task, for SFTTrainer."""

    def __init__(self, task: Task, way: Way, scratch: Path) -> None:
        from engine.students.data import preflight
        from engine.students.init.initial import initial
        from engine.students.init.tokenizer import fetch
        from engine.students.training import setup

        self.spec, self.way, self.scratch = task.spec, way, scratch
        tokens, student = setup.artifact(self.spec.tokens), self.spec.student
        own = preflight.load(fetch(tokens, self.spec.tokenizer, scratch / "tokenizer")) if student.init.vocabulary else None
        self.pruned = initial(self.spec, own)  # the attention of transformers' choice stays
        self.packed = setup.load_examples(self.spec, tokens, self.pruned)["train"]
        if not way.frozen:
            self.pruned.model.requires_grad_(True)

    def round(self, steps: int) -> Round:
        """Train on the examples of the first `steps` batches, in an order and in batches of SFTTrainer's own."""
        from datasets import Dataset
        from trl.trainer.sft_trainer import SFTTrainer

        rows = batches(self.packed, self.spec, steps)
        examples = Dataset.from_list([self.example(row) for each in rows for row in each if row >= 0])
        clock = clock_of()
        trainer = SFTTrainer(
            model=self.pruned.model,
            args=self.arguments(steps),
            train_dataset=examples,
            processing_class=self.pruned.tokenizer,
            callbacks=[clock],
        )
        trainer.train()
        return Round(tokens_of(self.packed, rows), clock.seconds)

    def example(self, row: int) -> dict[str, list[int]]:
        """Return an example as SFTTrainer has it after tokenising; prompt tokens are not learned."""
        packed = self.packed
        ids = packed.ids[packed.starts[row] : packed.starts[row + 1]].tolist()
        start = int(packed.targets[row])
        return {"input_ids": ids, "labels": [-100] * start + ids[start:]}

    def arguments(self, steps: int) -> Any:
        """Return the student's recipe as SFTConfig; what it does not name is TRL's default."""
        from trl.trainer.sft_config import SFTConfig

        student = self.spec.student
        return SFTConfig(
            output_dir=str(self.scratch / "trl"),
            max_steps=steps,
            per_device_train_batch_size=student.per_device_batch,
            gradient_accumulation_steps=student.batch_size // student.per_device_batch,
            learning_rate=student.learning_rate,
            weight_decay=student.weight_decay,
            max_grad_norm=student.max_grad_norm,
            bf16=student.dtype == "bfloat16",
            gradient_checkpointing=self.way.checkpointing,
            max_length=student.max_tokens,
            use_cpu=self.spec.accelerator == "cpu",
            seed=student.seed,
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )


def clock_of() -> Any:
    """Return a callback of transformers that measures from the begin of a training to the end of its last step."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        began = seconds = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.seconds = time.perf_counter() - self.began

    return Clock()
