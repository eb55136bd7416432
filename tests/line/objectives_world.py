"""Students with other objectives in the world of `students_world`: trained without a break, and interrupted and resumed.

`python objectives_world.py FOLDER` trains them all in this process, without Ray. The teacher's distribution is the teacher's own,
computed on the spot.
"""

import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import students_world as world
import torch
from transformers import AutoModelForCausalLM

from engine.students.data.captured import Captured
from engine.students.data.pack import Packed, collate
from engine.students.training import setup

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
)
STEPS = {"dpo_alone": 12, "orpo": 12}
moments = random.Random(0)
ENDS = {each.name: (moments.randrange(4, STEPS.get(each.name, 18)),) for each in STUDENTS}
"""Student -> the random step after which its training is interrupted, not before its first checkpoint."""


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


def main(folder: Path) -> None:
    world.begin()
    marked, teacher = setup.marked, AutoModelForCausalLM.from_pretrained(folder / "teacher")
    setup.marked = lambda packed, objectives: replace(marked(packed, objectives), teacher=captured(packed, teacher))
    for each in STUDENTS:
        world.run_alone(folder, each, "alone", ())
        world.run_alone(folder, each, "broken", ENDS[each.name])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
