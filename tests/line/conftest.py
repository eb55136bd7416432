"""One small cluster for all line tests: worker processes are slow to start, so they are shared."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Ray on this machine alone, with more logical CPUs than actors. Ended with the session."""
    import ray

    from engine.fleet.session import SYSTEM, quiet, start

    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    start(
        address="local",
        num_cpus=8,
        object_store_memory=300 << 20,
        include_dashboard=False,
        logging_level=logging.WARNING,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
        _system_config=SYSTEM,
    )
    quiet()
    yield
    ray.shutdown()
