"""A student whose source, examples, checkpoints and artifact lie behind the S3 stand-in has the losses of one on a disk."""

import json
from pathlib import Path

import fsspec
import pytest
import students_world as world

from engine.rows import STEP
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.folder import Folder
from engine.students.training.checkpoint_state import Progress
from tests.line.test_students import output, script

NAME = "zero2"

pytestmark = pytest.mark.chaos  # beside the kills on nodes that share no disk: minutes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training on a disk, in one process."""
    folder = tmp_path_factory.mktemp("remote")
    world.build(folder)
    assert script("loop", folder, [NAME]).wait(timeout=600) == 0, output(folder)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path, s3: str) -> Artifact:
    """The artifact of the training behind the URL."""
    store = Folder(f"{s3}/{folder.name}")
    for place in ("teacher", "run/dataset"):
        for path in (path for path in (folder / place).rglob("*") if path.is_file()):
            store.write(path.relative_to(folder).as_posix(), path.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FSSPEC_S3", json.dumps(fsspec.config.conf["s3"]))
        assert script("remote", folder, [str(store), NAME]).wait(timeout=900) == 0, output(folder)
    found = load_artifact(store / f"run/students/{NAME}")
    assert found
    return found


def test_losses_are_those_of_a_training_on_a_disk(folder: Path, trained: Artifact) -> None:
    curve = [entry["loss"] for entry in Progress.read(folder / "alone" / NAME).curve]
    assert trained.read("steps", STEP, ["loss"])["loss"].to_pylist() == pytest.approx(curve, rel=1e-5)


def test_model_and_checkpoints_lie_behind_the_url(folder: Path, trained: Artifact) -> None:
    assert "model/model.safetensors" in trained.folder.files()
    run = Folder(trained.folder.url.rpartition("/students")[0])
    assert any(name.endswith("progress.json") for name in (run / f"ledger/checkpoints/{NAME}").files())
    assert len(list(folder.glob("cache/*/*.safetensors"))) == 1  # the source, fetched by the worker
