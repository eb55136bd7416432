"""Set before any test imports torch, Ray or a tokenizer: one quiet thread, no hub, no token file. Ctrl-C works. An S3 stand-in."""

import os
import signal
from contextlib import suppress

import pytest
from hypothesis import settings

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts in the background ignore it

os.environ.update(
    {
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_AUTO_CONNECT": "0",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "900",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        "RAY_worker_niceness": "0",  # a busy machine would let the tests wait for their own workers
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }
)
settings.register_profile("repeatable", derandomize=True, deadline=None)  # a test that passes once passes on every machine
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def s3():
    """An S3 endpoint on the loopback, as a deployment names one: in fsspec's configuration."""
    import fsspec
    from moto.server import ThreadedMotoServer  # here: a second that most tests need not wait for

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {"endpoint_url": f"http://{host}:{port}", "key": "k", "secret": "s", "client_kwargs": {"region_name": "eu-west-1"}}
    fsspec.config.conf["s3"] = given
    with suppress(FileExistsError):  # of another stand-in of this process, which has the same memory
        fsspec.filesystem("s3").mkdir("bucket", create_parents=True, region_name="eu-west-1")
    yield "s3://bucket"
    del fsspec.config.conf["s3"]
    server.stop()
