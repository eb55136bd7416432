"""A local folder that is asked for what cannot be there."""

import pytest
from typer.testing import CliRunner

from engine.storage.folder import Folder
from jobs.cli import app


@pytest.mark.parametrize("name", ["file/below", "n" * 300])
def test_what_cannot_be_there_does_not_exist(tmp_path, name):
    (tmp_path / "file").write_text("x")
    folder = Folder(str(tmp_path))
    assert not folder.exists(name) and not (folder / name).exists("run.json")


@pytest.mark.parametrize("deep", [True, False])
def test_below_a_file_there_are_no_files(tmp_path, deep):
    (tmp_path / "file").write_text("x")
    assert Folder(f"{tmp_path}/file/below").files(deep=deep) == []


def test_the_status_of_a_file_says_that_there_is_no_run(tmp_path):
    (tmp_path / "file").write_text("x")
    result = CliRunner().invoke(app, ["status", str(tmp_path / "file")])
    assert result.exit_code == 1 and "no run is here" in result.stderr
