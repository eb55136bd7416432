"""Where artifacts and ledgers can lie: on a disk, in memory, and on an S3 stand-in."""

import pytest

from engine.storage.folder import Folder


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request, tmp_path):
    if request.param == "local":
        return Folder(f"{tmp_path}/run")
    root = "memory:/" if request.param == "memory" else request.getfixturevalue("s3")
    return Folder(f"{root}/{tmp_path.name}/run")
