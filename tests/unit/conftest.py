"""Where artifacts and ledgers can lie: on a disk, in memory, and on an S3 stand-in."""

import os

import fsspec
import pytest

from engine.storage.folder import Folder


@pytest.fixture(scope="session", autouse=True)
def unsynced():
    """No unit test cuts the power, so none waits until the disk has what it wrote; test_storage_artifact.py sees what is synced."""
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "fsync", lambda descriptor: None)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def s3():
    """An S3 endpoint on the loopback, as a deployment names one: in fsspec's configuration."""
    from moto.server import ThreadedMotoServer  # here: a second that most tests need not wait for

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {"endpoint_url": f"http://{host}:{port}", "key": "k", "secret": "s", "client_kwargs": {"region_name": "eu-west-1"}}
    fsspec.config.conf["s3"] = given
    fsspec.filesystem("s3").mkdir("bucket", create_parents=True, region_name="eu-west-1")
    yield "s3://bucket"
    del fsspec.config.conf["s3"]
    server.stop()


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request, tmp_path):
    if request.param == "local":
        return Folder(f"{tmp_path}/run")
    root = "memory:/" if request.param == "memory" else request.getfixturevalue("s3")
    return Folder(f"{root}/{tmp_path.name}/run")
