"""Ray for the length of a command: started and ended by us, or joined and left running."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray.data import DataContext

from engine.contract import Profile

log = logging.getLogger(__name__)


@contextmanager
def session(profile: Profile) -> Iterator[None]:
    """Hold a connection to the cluster that `profile` names. Inside a running session it does nothing."""
    if ray.is_initialized():
        yield
        return
    package = str(Path(__file__).parents[2])
    env = {"env_vars": {"PYTHONPATH": os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])}}
    if profile.ray.address == "local":
        ray.init(
            address="local",
            num_cpus=profile.ray.num_cpus,
            object_store_memory=int(profile.ray.object_store_gib * 2**30),
            include_dashboard=False,
            logging_level=logging.WARNING,
            log_to_driver=True,
            runtime_env=env,
        )
    else:
        ray.init(address=profile.ray.address, logging_level=logging.WARNING)
    quiet()
    try:
        yield
    finally:
        ray.shutdown()


def quiet() -> None:
    """Turn off Ray Data's own bars and notices; the command line shows progress of its own."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True  # the same rows meet in the same batch in every run
