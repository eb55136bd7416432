"""The jobs of `rayleigh bench recipe`, and the workspaces in which they run.

The folder has `mails/`, `answers/MAILS/TRAINING`, and a run folder `trainings/GROUP` for all students with one tokenizer (and one
capture, for those that read it), with a copy of the dataset.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from engine.contract.contract import Contract
from engine.rows import Row
from engine.runs.job import Job, JobContext, run_pipeline
from engine.runs.recipe import imported
from engine.runs.threads import SIGNAL_SECONDS
from engine.storage.artifact import Artifact
from jobs.bench.prune import copied
from jobs.bench.recipe_variants import Trained
from jobs.contracts.order_mail import generate as order_mail
from jobs.pipeline import capture_job, student_job, tokens_job
from jobs.terminal.console import Console
from jobs.workspace import Workspace

MAILS, SERIES, TEACHERS, STUDENTS = "mails.jsonl", "recipe", "teachers", "students/"
Task = tuple[Job, Callable[[Job], JobContext]]
"""A job whose inputs are finished, and what makes its context."""


class Mails(NamedTuple):
    """The mails that all models answer."""

    contract: Contract
    """Whose `prompts` names them as the holdout."""
    job: Job

    @property
    def answers(self) -> str:
        """Folder of the answers."""
        return self.job.name.replace("mails", "answers", 1)


def mails(contract: Contract, work: Workspace, count: int) -> Mails:
    """Return `count` mails of the generator that wrote the contract's holdout; of another contract, or for 0, the holdout."""
    made = generated(Path(work.root, contract.prompts.holdout.path), count) if count else []
    holdout, name = contract.prompts.holdout, "holdout"
    if made:
        work.folder.write(MAILS, "".join(json.dumps(row) + "\n" for row in made).encode())
        holdout, name = holdout.model_copy(update={"path": f"{work.folder.path}/{MAILS}", "take": None}), str(count)
    prompts = contract.prompts.model_copy(update={"holdout": holdout, "synthesize": ()})
    job = Job(f"mails/{name}", (), reads=("prompts",), run="jobs.steps.prompts:run", inputs="jobs.steps.prompts:source_hashes")
    return Mails(contract.model_copy(update={"prompts": prompts}), job)


def generated(holdout: Path, count: int) -> list[Row]:
    """Return `count` labelled rows of the shipped generator that wrote the file `holdout`; [] if none did."""
    written = Path(order_mail.HERE, holdout.name)
    if not (holdout.is_file() and written.is_file() and holdout.read_bytes() == written.read_bytes()):
        return []
    return order_mail.unseen(count, series=SERIES)


class Jobs:
    """Jobs of a comparison, and their contexts."""

    def __init__(self, work: Workspace, dataset: Artifact, mails: Mails, console: Console) -> None:
        self.work, self.dataset, self.mails, self.console = work, dataset, mails, console
        self.works: dict[str, Workspace] = {mails.job.name: replace(work, contract=mails.contract)}
        """Name of a job -> its workspace, if it is another one."""

    def context(self, job: Job) -> JobContext:
        """Return the context of a job."""
        work = self.works.get(job.name, self.work)
        return work.context(job, log=self.console.log, progress=self.console.progress)

    def context_in(self, trainings: Sequence[Trained]) -> Callable[[Job], JobContext]:
        """Return what makes the contexts of the jobs of trainings in one group."""
        by_name = {f"{STUDENTS}{each.student.name}": each for each in trainings}

        def context(job: Job) -> JobContext:
            each = by_name.get(job.name, trainings[0])
            return self.group(each).context(job, log=self.console.log, progress=self.console.progress)

        return context

    def group(self, each: Trained) -> Workspace:
        """Return the workspace of a training; its folder gets a copy of the dataset.

        Raises:
            InputError: the folder has another dataset.
        """
        folder = self.work.folder / "trainings" / each.group
        copied(self.dataset, folder / "dataset")
        return replace(self.work, folder=folder, contract=each.contract, root=each.variant.root)

    def training(self, trainings: Sequence[Trained]) -> list[Job]:
        """Return the jobs of trainings in one group, with what they need."""
        reads_capture = trainings[0].contract.capture is not None
        jobs = [tokens_job(), *([capture_job()] if reads_capture else [])]
        for each in trainings:
            champion = each.student.init.champion is not None
            jobs.append(student_job(f"{STUDENTS}{each.student.name}", continued=champion, capture=reads_capture))
        return jobs

    def answering(self, each: Trained) -> Job:
        """Return the job that lets a trained student answer."""
        needs = (self.mails.job.name, f"trainings/{each.group}/{STUDENTS}{each.student.name}")
        name, run = f"{self.mails.answers}/{each.student.name}", "jobs.bench.recipe_answers:student"
        self.works[name] = replace(self.work, contract=each.contract, root=each.variant.root)
        return Job(name, needs, reads=("specialist.task_units",), run=run)

    def teaching(self) -> Job:
        """Return the job that lets the teachers answer."""
        name, reads = f"{self.mails.answers}/{TEACHERS}", ("specialist.task_units", "teachers")
        run, inputs = "jobs.bench.recipe_answers:teachers", "jobs.steps.trained:inputs"
        return Job(name, (self.mails.job.name,), reads=reads, run=run, inputs=inputs)


def by_group(trainings: Sequence[Trained]) -> Mapping[str, list[Trained]]:
    """Return the trainings of each group."""
    found: dict[str, list[Trained]] = {}
    for each in trainings:
        found.setdefault(each.group, []).append(each)
    return found


def side_by_side(tasks: Sequence[Task], size: int) -> None:
    """Run `tasks`, at most `size` of them at the same time, in order. After a failure no further one begins.

    Raises:
        Exception: the first failure, once those that were running have ended.
    """
    for job, _ in tasks:
        imported(job.run)  # here: threads that import torch at once see each other's half-made modules
    threads, failed = ThreadPoolExecutor(size), list[Future[list[str]]]()
    try:
        waiting = {threads.submit(run_pipeline, [job], context) for job, context in tasks}
        while waiting:
            done, waiting = wait(waiting, timeout=SIGNAL_SECONDS, return_when=FIRST_COMPLETED)  # an endless one can miss a signal
            failed += [task for task in done if not task.cancelled() and task.exception()]
            if failed:
                waiting = {task for task in waiting if not task.cancel()}
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # at Ctrl-C the session must end first: the jobs wait for what it holds
    for task in failed[:1]:
        task.result()
