"""Students with other objectives in the world of `students_world`: trained without a break, and interrupted and resumed.

`python objectives_world.py FOLDER` trains them all in this process, without Ray. The teacher's distribution is the teacher's own,
computed on the spot. `python objectives_world.py FOLDER killed NAME ...` trains those of LONGER without a break and ended KILLS
times at random moments; `... shared NAME RANK WORLD PORT TARGET RESUME` is one worker of one of them.
"""

import contextlib
import json
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import students_world as world
import torch
from transformers import AutoModelForCausalLM

from engine.contract.students import Student
from engine.students.data.captured import Captured
from engine.students.data.pack import Packed, collate
from engine.students.training import loop, passes, setup, zero
from engine.students.training.checkpoint_state import Progress
from engine.students.training.state import WorkerContext

K = 8
BOTH = {"sft": 0.5, "forward_kl": {"weight": 0.5, "temperature": 2.0}}
STUDENTS = (
    world.student("kl", objectives=BOTH, dtype="bfloat16"),
    world.student("divergences", objectives={"sft": 0, "reverse_kl": 0.5, "jsd": {"weight": 1, "beta": 0.3}}),
    world.student("blended", objectives={**BOTH, "by_kind": {"refusal": {"forward_kl": 0}}, "by_tier": {1: {"sft": 2}}}),
    world.student("hidden", objectives={"hidden": {"loss": "mse", "layers": {0: 1, 1: 2}}}, zero=3),
    world.student("process", objectives={"sft": 0, "process": {"schedule": "fade"}}),
    world.student("dpo", objectives={"dpo": 1}, zero=3),
    world.student("dpo_alone", objectives={"sft": 0, "dpo": {"beta": 0.5}}, batch_size=4, micro_batch_size=2),
    world.student("orpo", objectives={"sft": 0, "orpo": 1}, batch_size=4),
    world.student("simpo", objectives={"sft": 0.1, "simpo": {"weight": 1, "gamma": 0.5}}),
    world.student("uld", objectives={"sft": 0.5, "uld": 1.5}),
)
STEPS = {"dpo_alone": 12, "orpo": 12}
moments = random.Random(0)
ENDS = {each.name: (moments.randrange(4, STEPS.get(each.name, 18)),) for each in STUDENTS}
"""Student -> the random step after which its training is interrupted, not before its first checkpoint."""
KILLS, APART = 10, 24
"""Kills of a training, and the most moments from one to the next: four steps, as far as a checkpoint is, have about 15."""
STOP = 12
"""Step at which a training that goes on with other workers ends."""
LONGER = tuple(each.model_copy(update={"epochs": 6, "dtype": "float32"}) for each in (world.student("sft"), *STUDENTS))


def captured(split: Packed, teacher: Any) -> Captured:
    """The teacher's K most likely tokens at every target token; the gate is closed at every fifth."""
    rows = []
    for row in range(len(split)):
        batch = collate(split, np.array([row]), pad=0)
        with torch.no_grad():
            rows.append(teacher(input_ids=batch.ids, attention_mask=batch.mask).logits[0, batch.positions].log_softmax(1))
    top, ids = torch.cat(rows).topk(K)
    tail = torch.log1p(-top.exp().sum(1)).numpy()
    starts = np.arange(0, ids.numel() + 1, K)
    return Captured(starts, ids.flatten().int().numpy(), top.flatten().numpy(), tail, np.arange(len(tail)) % 5 != 0)


def run_killed(folder: Path, chosen: Student) -> None:
    """Train `chosen` in attempts, each of which ends at a random forward pass, validation, checkpoint or step; count the kills."""
    target, draw, left = folder / "killed" / chosen.name, random.Random(chosen.name), [0]

    def moment(*_: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise world.Interrupted

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *values, **named: (moment(), call(*values, **named))[1]

    def keep(checkpoint: Path) -> None:
        moment()  # it was written, and nobody knows of it
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(checkpoint, target)
        moment()

    kills = 0
    while not (target.exists() and Progress.read(target).is_over):
        left[0], resume = draw.randrange(1, APART) if kills < KILLS else 0, folder / "resume"
        shutil.rmtree(resume, ignore_errors=True)
        if target.exists():
            shutil.copytree(target, resume)
        worker = WorkerContext(0, 1, torch.device("cpu"), resume if resume.exists() else None, keep, moment)
        with contextlib.ExitStack() as patched, contextlib.suppress(world.Interrupted):
            for owner, name in ((passes, "inputs"), (loop, "validate"), (zero, "save")):
                patched.enter_context(mock.patch.object(owner, name, before(getattr(owner, name))))
            loop.run(world.spec_for(folder, chosen), worker)
        kills += left[0] == 0 and kills < KILLS
    (folder / f"killed-{chosen.name}.json").write_text(json.dumps(kills))


def capture_on_the_spot(folder: Path) -> None:
    """Let trainings read the distribution of the teacher in `folder` where they would read a capture."""
    marked, teacher = setup.marked, AutoModelForCausalLM.from_pretrained(folder / "teacher")
    setup.marked = lambda packed, objectives: replace(marked(packed, objectives), teacher=captured(packed, teacher))


def main(folder: Path) -> None:
    world.begin()
    capture_on_the_spot(folder)
    for each in STUDENTS:
        world.run_alone(folder, each, "alone", ())
        world.run_alone(folder, each, "broken", ENDS[each.name])


def main_killed(folder: Path, names: list[str]) -> None:
    world.begin()
    capture_on_the_spot(folder)
    for each in LONGER:
        if each.name in names:
            (folder / "alone").mkdir(exist_ok=True)
            world.train_part(folder, each, folder / "alone" / each.name)  # keeps the checkpoint of step 4, too
            run_killed(folder, each)


def main_shared(folder: Path, arguments: list[str]) -> None:
    name, rank, size, port, target, resume = arguments
    world.join(int(rank), int(size), int(port))
    capture_on_the_spot(folder)
    chosen = next(each for each in LONGER if each.name == name).model_copy(update={"workers": int(size)})
    share = chosen.batch_size // int(size)
    placed = chosen.model_copy(update={"micro_batch_size": min(chosen.micro_batch_size, share)})
    world.train_part(folder, placed, folder / target, folder / resume, STOP)


if __name__ == "__main__":
    where, mode, *rest = Path(sys.argv[1]), *(sys.argv[2:] or [""])
    {"": lambda: main(where), "killed": lambda: main_killed(where, rest), "shared": lambda: main_shared(where, rest)}[mode]()
