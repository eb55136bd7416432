"""Where artifacts and ledgers can lie: on a disk, in memory, and on an S3 stand-in."""

import os

import pytest

from engine.storage.folder import Folder


@pytest.fixture(scope="session", autouse=True)
def unsynced():
    """No unit test cuts the power, so none waits until the disk has what it wrote; test_storage_artifact.py sees what is synced."""
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "fsync", lambda descriptor: None)
    yield
    patch.undo()


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request, tmp_path):
    if request.param == "local":
        return Folder(f"{tmp_path}/run")
    root = "memory:/" if request.param == "memory" else request.getfixturevalue("s3")
    return Folder(f"{root}/{tmp_path.name}/run")
