"""Ray around a command: a log file for the output of Ray and vLLM, and errors that say how to go on."""

import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from threading import Thread
from types import FrameType
from typing import NoReturn

from engine.errors import InputError
from jobs.commands.check import verify, verify_exporters
from jobs.commands.check_capture import ask_captured
from jobs.commands.check_nodes import require_run_folder
from jobs.commands.check_placement import held_by_others, never, table
from jobs.commands.check_schemas import schema_notes
from jobs.terminal.console import Console
from jobs.terminal.environment import set_environment
from jobs.terminal.errors import unwrap_error
from jobs.workspace import Workspace

END_SECONDS = 55.0  # after SIGTERM: more than batches get to finish, less than the 60 that `rayleigh submit --stop` allows


@contextmanager
def job_session(
    work: Workspace, console: Console, jobs: Collection[str] = (), *, at_once: bool = True
) -> Iterator[Callable[[], None]]:
    """Check the contract's files and models, write `run.json`, and hold `ray_session`. Enter it only if a job has to run.

    What `jobs`, those that have to run, need at the same time is held against the cluster, which starts `at_once`, or when the
    function that is yielded is called.

    Raises:
        InputError: a cluster on this machine can never place a job, or the run folder is a URL and a student needs a disk.
        RayleighError: a file or a model of the contract is missing, or a job failed.
    """
    require_run_folder(work.contract, work.folder)
    weights = work.profile.weights_cache
    verify(work.contract, root=work.root, models=work.models, run=work.folder, cache=weights)
    verify_exporters(work.contract, work.profile, root=work.root, models=work.models, run=work.folder)
    if "capture" in jobs:  # before its teachers answer anything: what a server cannot score is paid in vain
        ask_captured(work.contract, root=work.root, cache=weights)
    work.save()
    for note in schema_notes(work.contract):
        console.log(f"decoder  {note}")
    with ray_session(work, console, at_once=False) as start_ray:

        @cache
        def start() -> None:
            start_ray()
            check_capacity(work, jobs, console)

        if at_once:
            start()
        yield start


def check_capacity(work: Workspace, jobs: Collection[str], console: Console) -> None:
    """Hold what `jobs` need against the cluster, and say at once what waits and what can never be placed.

    Raises:
        InputError: something can never be placed.
    """
    from engine.distributed import session
    from engine.distributed.capacity import wanted
    from engine.distributed.placement import place

    wants = list(wanted(work.contract, work.profile, jobs))
    groups, is_limit_known = session.groups(work.profile)
    placements = place(wants, groups)
    lost, is_local = never(placements), work.profile.ray.address == "local"
    if lost and is_limit_known:
        end = "\nLower these pools, raise ray.num_cpus, or add GPUs." if is_local else ""
        raise InputError(f"the cluster cannot place this run, so Ray would wait forever.\n{table(placements)}{end}")
    if any(placement.state != "fits" for placement in placements):
        says = "waits until the cluster has grown, forever if it does not" if lost else "waits for nodes, or runs with fewer actors"
        console.log(f"WARNING: this run {says}.\n{table(placements)}")
    if not is_local:
        for line in held_by_others(wants, session.running_groups(), session.running_groups(free=True)):
            console.log(line)


@contextmanager
def ray_session(work: Workspace, console: Console, *, at_once: bool = True) -> Iterator[Callable[[], None]]:
    """Hold a Ray session and send all output but the console's own lines to the log file of this command.

    Ray starts `at_once`, or when the function that is yielded is called, which does nothing the second time.

    Raises:
        RayleighError: a job or a worker failed; notes say where the log is and how to go on.
    """
    set_environment(work.profile)
    log = work.log_path()
    console.log(f"run      {work.folder}\nlog      {log}")
    with console.noise_to(log):
        try:
            with ExitStack() as stack, sigterm_as_interrupt():

                @cache
                def start() -> None:
                    from engine.distributed.drain import finish_batches
                    from engine.distributed.session import session  # Ray takes a second to import, and its notices go to the log

                    stack.enter_context(session(work.profile))
                    # Ray has set a handler that raises SystemExit
                    stack.enter_context(sigterm_as_interrupt(partial(_finish_batches, console, finish_batches)))

                if at_once:
                    start()
                yield start
        except KeyboardInterrupt as stop:
            stop.add_note(f"Finished jobs and paid answers are kept: run the same command again to go on. Log: {log}")
            raise
        except Exception as error:
            failure = unwrap_error(error)
            failure.add_note(f"Finished jobs are kept: fix it and run the same command again. Log: {log}")
            if failure is error:
                raise
            raise failure from error


def _finish_batches(console: Console, finish: Callable[[], int]) -> None:
    """Let the actors finish the batches that are being paid for, and begin no others."""
    line = "SIGTERM: finishing the batches in flight; again: stop at once"
    Thread(target=console.log, args=(line,), daemon=True).start()  # the interrupted thread may hold the console's lock
    if busy := finish():
        console.log(f"{busy} batches were not finished in time: they are paid again")


@contextmanager
def sigterm_as_interrupt(before_end: Callable[[], None] | None = None) -> Iterator[None]:
    """Let SIGTERM, which schedulers send, end a command as Ctrl-C does, after `before_end`; a second one does not wait for it, nor
    does anything for longer than END_SECONDS: it may need a lock that the interrupted thread holds, or call a head that is away.
    """

    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if before_end:
            waiting = Thread(target=before_end, daemon=True)  # a thread: this one may hold a lock of Ray's
            waiting.start()
            waiting.join(END_SECONDS)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
