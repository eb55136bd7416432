"""A contract behind a URL: its includes, and all that it names by relative paths, are read from there."""

import pytest
from made_run import workspace
from typer.testing import CliRunner

from engine.contract.load import load_contract
from engine.errors import ContractError
from engine.readers.below import below
from engine.readers.paths import data_files
from engine.rows import PROMPT
from engine.storage.folder import Folder
from jobs import workspace as workspaces
from jobs.cli import app


def ask(*words, code=0):
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


@pytest.fixture
def remote(tmp_path, s3, monkeypatch):
    """The URL of a folder with a contract, its seeds and its student's source."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where the cache of models is
    workspace(str(tmp_path / "run"), tmp_path / "seeds")
    text = (tmp_path / "seeds" / "toy.yaml").read_text()
    (tmp_path / "seeds" / "goal.txt").write_text("count\n")
    (tmp_path / "seeds" / "toy.yaml").write_text(text.replace("goal: count", "goal: !include goal.txt"))
    url = f"{s3}/{tmp_path.name}"
    Folder(s3).fs.put(f"{tmp_path}/seeds/", f"{url}/", recursive=True)
    return url


def test_it_is_the_same_contract_and_its_files_are_found(remote, tmp_path):
    here, there = load_contract(tmp_path / "seeds" / "toy.yaml"), load_contract(f"{remote}/toy.yaml")
    assert there.contract == here.contract and there.root == remote and here.root == str(tmp_path / "seeds")
    assert "toy" in ask("check", f"{remote}/toy.yaml")
    Folder(remote).fs.rm(f"{remote}/seeds.jsonl")
    assert f"found nothing at {remote}/seeds.jsonl" in ask("check", f"{remote}/toy.yaml", code=1)


def test_its_prompts_are_those_of_the_contract_on_a_disk(remote, tmp_path):
    rows = []
    for contract, run in ((f"{remote}/toy.yaml", f"{remote}/run"), (str(tmp_path / "seeds" / "toy.yaml"), str(tmp_path / "other"))):
        ask("run", contract, run, "--until", "prompts")
        rows.append(workspaces.finished(Folder(run), "prompts").read("prompts", PROMPT).to_pylist())
        assert rows[-1][0]["source"] == "seeds.jsonl"
        assert workspaces.reopen(run).contract_path == contract
    assert rows[0] == rows[1] and [row["text"] for row in rows[0]] == ["two apples"]


def test_folders_of_the_root_give_no_columns_and_nodes_read_nothing_by_path(remote):
    store = Folder(remote)
    for name in ("toy.yaml", "goal.txt", "seeds.jsonl", "holdout.jsonl", "model/config.json"):
        store.write(f"team=x/{name}", store.read(name))
    assert [file.partitions for file in data_files("seeds.jsonl", root=f"{remote}/team=x")] == [{}]
    assert {"team": "x"} in [file.partitions for file in data_files("team=x", root=remote)]
    assert "Read by path" not in ask("check", f"{remote}/team=x/toy.yaml", "--profile", "cluster")


def test_includes_are_found_as_on_a_disk(remote):
    store = Folder(remote)
    store.write("goal.txt", b"count\r\nall\r\n")
    text = store.read("toy.yaml").decode()
    for name in ("../goal.txt", f"{remote}/goal.txt"):
        store.write("deep/toy.yaml", text.replace("goal.txt", name).encode())
        assert load_contract(f"{remote}/deep/toy.yaml").contract.specialist.goal == "count\nall"


def test_what_is_not_there_or_no_contract_is_named(remote):
    assert f"{remote}/none.yaml: there is no such file" in ask("check", f"{remote}/none.yaml", code=1)
    Folder(remote).write("bad.yaml", b"name: !include nothing.txt")
    with pytest.raises(ContractError, match=f"!include {remote}/nothing.txt: cannot be read"):
        load_contract(f"{remote}/bad.yaml")
    advice = f"ray job submit -- rayleigh run {remote}/toy.yaml {remote}/run --profile cluster"
    assert advice in ask("submit", f"{remote}/toy.yaml", f"{remote}/run", "--address", "http://x", code=1)


@pytest.mark.parametrize(
    ("root", "path", "found"),
    [
        ("/a/b", "c/d.jsonl", "/a/b/c/d.jsonl"),
        ("/a/b", "/c", "/c"),
        ("/a/b", "s3://c/d", "s3://c/d"),
        ("s3://bucket/a", "c/d", "s3://bucket/a/c/d"),
        ("s3://bucket/a/", "../c", "s3://bucket/c"),
        ("s3://bucket/a", "/c", "/c"),
    ],
)
def test_relative_paths_start_at_a_folder_or_a_url(root, path, found):
    assert below(root, path) == found
