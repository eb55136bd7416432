"""`rayleigh run`: the line of one contract in one run folder, from whatever is finished already to the end."""

import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from engine import errors
from engine.contract import Profile
from engine.errors import RayleighError
from engine.runs.job import run_pipeline, up_to
from jobs import workspace
from jobs.commands import status, summary
from jobs.commands.check import verify
from jobs.pipeline import line
from jobs.terminal.console import Console
from jobs.workspace import Workspace

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # set before torch loads: with libgomp's spinning threads everything on a CPU is many times slower
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "900",  # imports are slow where many workers share a disk
}
RAISED = re.compile(r"^engine\.errors\.(\w+): (.+?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)  # as a traceback ends


def run(path: str, folder: str, *, profile: str, changes: Sequence[str], until: str | None = None) -> None:
    """Run what is not finished of the contract `path` in the run folder `folder`, and print how it came out.

    With `until`, only that job and what it needs.

    Raises:
        InputError: there is no job `until`.
        RecipeMismatch: a finished job was made by another recipe; nothing has run.
        RayleighError: a job failed; what is finished is kept.
    """
    work = workspace.create(path, folder, profile=profile, changes=changes)
    jobs = up_to(line(work.contract), until) if until else line(work.contract)
    console = Console()
    started = time.monotonic()
    with workspace.locked(work.folder):
        ran = run_pipeline(
            jobs,
            lambda job: work.context(job, log=console.log, progress=console.progress),
            session=lambda: at_work(work, console),
        )
    if ran:
        console.log(f"\n{len(ran)} {'job' if len(ran) == 1 else 'jobs'} in {time.monotonic() - started:.0f} s.")
    else:
        console.log(f"Nothing to do: {until or 'every job'} of {work.folder} is finished.")
    console.log("\n" + (status.as_text(status.status(folder)) if until else summary.text(folder, summary.report(folder))))


@contextmanager
def at_work(work: Workspace, console: Console) -> Iterator[None]:
    """Hold what jobs need: the remembered order, a log for the noise, Ray. Entered only if a job has to run."""
    verify(work.contract, root=work.root, models=work.models)
    work.save()
    with on_ray(work, console):
        yield


@contextmanager
def on_ray(work: Workspace, console: Console) -> Iterator[None]:
    """Hold a log for the noise, and Ray."""
    set_environment(work.profile)
    log = work.log_path()
    console.log(f"run      {work.folder}\nlog      {log}")
    with console.noise_to(log):
        from engine.distributed.session import session  # Ray takes a second to import: only now, and its words go to the log

        try:
            with session(work.profile), stopped_by_sigterm():
                yield
        except KeyboardInterrupt as stop:
            stop.add_note(f"Finished jobs and paid answers are kept: run the same command again to go on. Log: {log}")
            raise
        except Exception as error:
            failure = ours(error)
            failure.add_note(f"Finished jobs are kept: mend it and run the same command again. Log: {log}")
            if failure is error:
                raise
            raise failure from error


def ours(error: Exception) -> Exception:
    """Return the RayleighError that a worker raised, else `error` itself: of a worker's error Ray keeps the traceback's text."""
    found = None if isinstance(error, RayleighError) else RAISED.search(str(error))
    kind = getattr(errors, found[1], None) if found else None
    if found is None or kind is None:
        return error
    failure: Exception = kind(found[2].strip())
    for note in getattr(error, "__notes__", []):
        failure.add_note(note)
    return failure


def set_environment(profile: Profile) -> None:
    """Set what Ray, torch and the tokenizers read when they load, unless the caller has."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if profile.ray.address == "local":  # a cluster of our own on the loopback: a token would only leave a file behind
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    if not profile.trainer.gpus:
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # one process less for each student


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM, as a scheduler sends it, end a run as Ctrl-C does."""

    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
