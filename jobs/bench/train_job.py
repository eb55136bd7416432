"""The side of `rayleigh bench train` that runs the job of a student as the pipeline does: Ray Train, DeepSpeed, checkpoints."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.connection import Connection

from engine.records.student import StudentMetrics
from engine.rows import STEP
from engine.runs.job import run_job
from engine.storage.folder import Folder
from engine.students.training import setup
from jobs.bench.prune import copied
from jobs.bench.train_sides import Task, batches, lengths, serve, tokens_of
from jobs.bench.turns import Round
from jobs.pipeline import student_job
from jobs.workspace import Workspace

INPUTS = ("dataset", "tokens")


def job(pipe: Connection, _: int, profile: str, *, task: Task, work: Workspace) -> None:
    """The job of a student, in a run folder of its own for each round; Ray is started once, before the clock."""
    started = time.perf_counter()
    from engine.distributed.session import session
    from engine.students.data import flat

    student = task.spec.student
    tokens = setup.artifact(task.spec.tokens)
    packed = flat.load(tokens, task.spec.tokenizer, split="train", max_tokens=student.max_tokens, curriculum=student.curriculum)

    def rounds() -> Iterator[dict[str, Round]]:
        for steps in lengths(task.steps):
            count = tokens_of(packed, batches(packed, task.spec, steps))
            yield {name: Round(count, seconds) for name, seconds in _seconds(work, task, steps).items()}

    with ExitStack() as stack:
        stack.enter_context(session(work.profile, data=False))
        serve(pipe, rounds(), started)


def _seconds(work: Workspace, task: Task, steps: int) -> dict[str, float]:
    student = task.spec.student.model_copy(update={"max_steps": steps})
    contract = work.contract.model_copy(update={"students": (student,)})
    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as name:
        here = replace(work, folder=Folder(name), contract=contract)
        for each in INPUTS:
            copied(setup.artifact(f"{work.folder}/{each}"), here.folder / each)
        began = time.perf_counter()
        made = run_job(here.context(student_job(f"students/{student.name}"), log=lambda line: None, progress=lambda line: None))
        whole = time.perf_counter() - began
        curve = made.read("steps", STEP, ["split", "seconds"]).to_pylist()
    return {
        "job": sum(each["seconds"] for each in curve if each["split"] == "train"),
        "job, training": made.metrics(StudentMetrics).seconds,
        "job, whole": whole,
    }
