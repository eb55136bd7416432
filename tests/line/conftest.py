"""One small cluster for all line tests: worker processes are slow to start, so they are shared."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Ray on this machine alone, with more logical CPUs than actors. Ended with the session."""
    import ray

    from engine.distributed.session import configure_data, start

    start(num_cpus=8, object_store_memory=300 << 20, log_to_driver=False)
    configure_data()
    yield
    ray.shutdown()
