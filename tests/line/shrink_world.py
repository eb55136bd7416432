"""Students that are cut in steps from the very small teacher of `students_world`, widened so that sizes can be cut.

`python shrink_world.py FOLDER NAME KILLED` trains a student without Ray; it dies in the step KILLED (a name in `recovery.steps`, or
`train` for the training itself), or in none of them for "".
"""

import os
import shutil
import sys
from pathlib import Path

import students_world as world
import torch
import torch.distributed as dist
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from engine.contract.students import Student
from engine.students.training import loop
from engine.students.training.checkpoint_state import Progress
from engine.students.training.state import WorkerContext

SHRINK = {"source": "teacher", "to": 60_000, "steps": 3, "recover_steps": 4, "sample": 8}
STUDENT = world.student("cut", init={"shrink": SHRINK}, **{**world.SHORT, "epochs": 1, "checkpoint_steps": 2})
PAIR = STUDENT.model_copy(update={"name": "pair", "workers": 2, "micro_batch_size": 2, "zero": 3})


def build(folder: Path) -> None:
    """Write dataset and teacher: six layers of hidden size 64, feed-forward 128, 4 key-value heads of 8."""
    world.build(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder / "teacher")
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4, tie_word_embeddings=True, initializer_range=0.1, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(folder / "teacher")


def train(folder: Path, student: Student, killed: str) -> None:
    """Train as rank RANK of WORLD_SIZE; die without a word in the step `killed`."""
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    os.environ.update(RANK=str(rank), LOCAL_RANK="0", WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", DS_ACCELERATOR="cpu")
    dist.init_process_group("gloo")
    target = folder / student.name

    def keep(checkpoint: Path) -> None:
        if rank == 0:
            shutil.rmtree(target / "checkpoint", ignore_errors=True)
        if size > 1:
            dist.barrier()
        shutil.copytree(checkpoint, target / "checkpoint", dirs_exist_ok=True)
        if size > 1:
            dist.barrier()

    def step(progress: Progress, steps: int) -> None:
        if killed and progress.step == 3 and killed == (f"recovered-{progress.phase.split()[1]}" if progress.phase else "train"):
            os._exit(9)

    resume = target / "checkpoint" if (target / "checkpoint").is_dir() else None
    loop.run(world.spec_for(folder, student), WorkerContext(rank, size, torch.device("cpu"), resume, keep, step, str(target)))


if __name__ == "__main__":
    train(Path(sys.argv[1]), {each.name: each for each in (STUDENT, PAIR)}[sys.argv[2]], sys.argv[3])
