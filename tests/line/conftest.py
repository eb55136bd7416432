"""One small cluster for all line tests: worker processes are slow to start, so they are shared."""

import gc
import warnings
from collections.abc import Iterator

import data_world
import pytest

from engine.contract.profile import Ray


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """Collect what a cluster of this module left: a handle of a process of Ray warns when it is collected, in whatever test."""
    yield
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "subprocess .* is still running", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Ray on this machine alone, with more logical CPUs than actors. Ended with the session."""
    import ray

    from engine.distributed.session import configure_data, start

    start(num_cpus=8, object_store_memory=300 << 20, log_to_driver=False)
    configure_data()
    yield
    ray.shutdown()


@pytest.fixture(scope="module", params=["threads", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[str]:
    """What runs the small work of data_world's contexts: threads, which may not use the cluster, or the cluster."""
    if request.param == "ray":
        request.getfixturevalue("cluster")
    ray = Ray(address="none") if request.param == "threads" else Ray(in_process_gib=0)
    before = data_world.PROFILE
    data_world.PROFILE = before.model_copy(update={"ray": ray})
    yield request.param
    data_world.PROFILE = before
