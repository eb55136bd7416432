"""Students of the very small teacher with a trimmed vocabulary, with an adapter, and with all its weights.

`python initial_world.py FOLDER` trains them in FOLDER without Ray, one of them in three attempts, and writes what checkpoints hold.
"""

import json
import os
import shutil
import socket
import sys
from pathlib import Path

import students_world as world
import torch
import torch.distributed as dist

from engine.contract.students import Student
from engine.students.training import loop
from engine.students.training.checkpoint_state import Progress
from engine.students.training.state import WorkerContext

LORA = {"type": "lora", "rank": 2, "dropout": 0.1, "targets": ["q_proj", "v_proj"], "merge": False}
TEACHER = {"model": {"source": "teacher"}}
STUDENTS = (
    world.student("whole", init=TEACHER, freeze_embeddings=False),
    world.student("lora", init={**TEACHER, "adapter": LORA}),
    world.student("small", init={"prune": {"source": "teacher", "layers": [0, 2]}, "vocabulary": {}}, freeze_embeddings=False),
    world.student("small_dora", init={**TEACHER, "vocabulary": {"trim": {}}, "adapter": {"type": "dora", "rank": 2}}),
)
ENDS = (6, 13)
"""Steps after which the training of `lora` is interrupted."""


class Interrupted(Exception):
    """The end of an attempt."""


def train(folder: Path, chosen: Student, kind: str, ends: tuple[int, ...] = ()) -> None:
    """Train `chosen`; the last checkpoint lands in `folder`/KIND/NAME, and the sizes of the first one's files beside."""
    target = folder / kind / chosen.name

    def keep(checkpoint: Path) -> None:
        sizes = {str(path.relative_to(checkpoint)): path.stat().st_size for path in checkpoint.rglob("*") if path.is_file()}
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(checkpoint, target)
        (folder / kind / f"{chosen.name}-{Progress.read(checkpoint).step}.json").write_text(json.dumps(sizes))

    for end in (*ends, 0):

        def on_step(progress: Progress, steps: int, end: int = end) -> None:
            if progress.step == end:
                raise Interrupted

        resume = shutil.copytree(target, folder / "resume", dirs_exist_ok=True) if target.exists() else None
        try:
            loop.run(world.spec_for(folder, chosen), WorkerContext(0, 1, torch.device("cpu"), resume, keep, on_step))
        except Interrupted:
            continue
        finally:
            shutil.rmtree(folder / "resume", ignore_errors=True)


if __name__ == "__main__":
    world.STUDENTS = STUDENTS
    folder = Path(sys.argv[1])
    world.build(folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=port, DS_ACCELERATOR="cpu")
    dist.init_process_group("gloo")
    for one in STUDENTS:
        (folder / "alone").mkdir(exist_ok=True)
        train(folder, one, "alone")
    (folder / "broken").mkdir()
    train(folder, STUDENTS[1], "broken", ENDS)
