"""Ray for the length of a command: started and ended by us, or joined and left running."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from engine.contract import Profile

log = logging.getLogger(__name__)

# What a worker has started ends with it, however it ends: on a GPU vLLM's engine is a process of its own, which holds the memory.
SYSTEM = {"process_group_cleanup_enabled": True}


@contextmanager
def session(profile: Profile, *, data: bool = True) -> Iterator[None]:
    """Hold a connection to the cluster that `profile` names, for Ray Data or for plain tasks only.

    Inside a running session it does nothing.
    """
    if ray.is_initialized():
        yield
        return
    if profile.ray.address == "local":
        start(
            num_cpus=profile.ray.num_cpus,
            object_store_memory=int(profile.ray.object_store_gib * 2**30),
            log_to_driver=True,
        )
    else:
        ray.init(address=profile.ray.address, logging_level=logging.WARNING)
    if data:
        quiet()
    try:
        yield
    finally:
        ray.shutdown()


def start(**options: Any) -> None:
    """Start Ray on this machine; again if it gave up, since it waits only 30 s for its own processes, which may be too few.

    Workers find this package by a variable that they inherit: with a runtime environment each would start a second slower.
    """
    package = str(Path(__file__).parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([package, *filter(None, [os.environ.get("PYTHONPATH")])]))
    for attempts_left in (2, 1, 0):
        try:
            ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING, _system_config=SYSTEM, **options)
            return
        except Exception as error:  # Ray raises a bare Exception
            if "timed out during startup" not in str(error) or not attempts_left:
                raise
            log.warning("Ray did not start in time; trying again")
            ray.shutdown()


def quiet() -> None:
    """Turn off Ray Data's own bars and notices; the command line shows progress of its own."""
    from ray.data import DataContext  # a second that plain tasks need not pay

    warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks")  # fewer blocks than places is no fault
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.wait_for_min_actors_s = -1  # a pool begins with the first actor that is there
    context.execution_options.preserve_order = True  # the same rows meet in the same batch in every run
