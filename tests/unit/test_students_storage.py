"""Checkpoints behind a URL: Ray Train writes and reads them through fsspec, as everything else of a run."""

import pickle
from pathlib import Path

from ray.train import Checkpoint
from ray.train.v2._internal.execution.storage import StorageContext

from engine.storage.folder import Folder
from engine.students.training import launch
from engine.students.training.launch import CheckpointLocation


def test_checkpoint_behind_a_url_is_written_and_read(s3, tmp_path):
    location = CheckpointLocation(f"{s3}/{tmp_path.name}/checkpoints", "training")
    path, filesystem = launch.storage(location)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "progress.json").write_text("{}")
    context = StorageContext(storage_path=path, experiment_dir_name=location.name, storage_filesystem=filesystem)
    for name in ("checkpoint_2026-01-01", "checkpoint_2026-01-02"):
        saved = context.persist_current_checkpoint(Checkpoint.from_directory(str(tmp_path / "made")), name)
    with pickle.loads(pickle.dumps(saved)).as_directory() as folder:  # in another process of another node
        assert Path(folder, "progress.json").read_text() == "{}"
    launch.sweep(location, keep="checkpoint_2026-01-02")
    names = {file.partition("/")[0] for file in Folder(f"{location.storage}/{location.name}").files()}
    assert "checkpoint_2026-01-02" in names and "checkpoint_2026-01-01" not in names


def test_checkpoints_on_a_disk_need_no_file_system_of_their_own(tmp_path):
    assert launch.storage(CheckpointLocation(str(tmp_path), "training")) == (str(tmp_path), None)
