"""What `rayleigh run` and its neighbours refuse before a job begins: folders, jobs and profiles that cannot be meant."""

import json
import sys
from pathlib import Path

import pytest
from made_run import made_run, workspace
from typer.testing import CliRunner

from engine.errors import InputError
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder
from jobs.bench import prune
from jobs.cli import app
from jobs.workspace import Workspace


@pytest.fixture
def toy(tmp_path: Path) -> Workspace:
    return workspace(str(tmp_path / "run"), tmp_path)


def refused(*words: str) -> str:
    result = CliRunner().invoke(app, [*words], catch_exceptions=False)
    assert result.exit_code == 1, result.output
    return result.stderr


def test_run_of_a_newer_version_is_not_touched(toy: Workspace) -> None:
    toy.save()
    newer = json.dumps({**json.loads(toy.folder.read("run.json")), "version": 99}).encode()
    toy.folder.write("run.json", newer)
    for words in (("status", str(toy.folder)), ("run", toy.contract_path, str(toy.folder), "--until", "prompts")):
        assert "run.json: found version 99, expected at most 2: a newer version of Rayleigh wrote it" in refused(*words)
    assert toy.folder.read("run.json") == newer and not toy.folder.exists("prompts")


@pytest.mark.parametrize("job", ["", "promts", "small", "capture"])
def test_job_that_the_contract_does_not_have_is_refused(toy: Workspace, job: str) -> None:
    said = refused("run", toy.contract_path, str(toy.folder), "--until", job)
    assert f"--until: found {job!r}, expected one of prompts, candidates" in said and not toy.folder.exists("run.json")


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ("{actors: {1: 2, min: 3}}", "actors: found the keys [1, 'min'], expected a number, or min and max"),
        ("{actors: 1, actors: 2}", "found the key 'actors' twice, first on line 2"),
        ("{actors: true}", "teacher.actors: found true, expected a number"),
        ("{hang_seconds: .inf}", "teacher.hang_seconds: found inf, expected a finite number"),
    ],
)
def test_profile_that_cannot_be_meant_is_refused(toy: Workspace, tmp_path: Path, pool: str, said: str) -> None:
    (tmp_path / "profile.yaml").write_text(f"name: p\nteacher: {pool}\n")
    assert said in refused("run", toy.contract_path, str(toy.folder), "--profile", str(tmp_path / "profile.yaml"))


def test_benchmark_of_nothing_is_wrong_usage() -> None:
    for words in (["prune", "run", "--work", "w", "--student", "s", "--seeds", "0"], ["capture", "--examples", "0"]):
        result = CliRunner().invoke(app, ["bench", *words], catch_exceptions=False)
        assert result.exit_code == 2 and "greater than or equal to 1" in result.output


def test_benchmark_of_layers_refuses_a_student_that_reads_a_capture(toy: Workspace, tmp_path: Path) -> None:
    toy.save()
    raw = json.loads(toy.folder.read("run.json"))
    raw["contract"]["students"][0]["objectives"]["forward_kl"] = {"weight": 1}
    raw["contract"]["capture"] = {}
    toy.folder.write("run.json", json.dumps(raw).encode())
    said = refused("bench", "prune", str(toy.folder), "--work", str(tmp_path / "work"), "--student", "small")
    assert "--student: small learns from the teacher's distribution, which this benchmark does not capture" in said


def test_benchmark_of_layers_refuses_the_folder_of_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = []
    monkeypatch.setattr(prune, "_run", lambda *_: reached.append(1) or sys.exit(9))
    work, order = str(tmp_path / "work"), prune.Order(seeds=1, steps=1, recover_steps=0)
    run = made_run("memory://prune/run", tmp_path / "seeds")  # as behind a URL
    for _ in range(2):
        with pytest.raises(SystemExit):
            prune.bench(run.folder.url, work, student="small", order=order, profile="laptop")
    for name in prune.INPUTS:
        made, copy = load_artifact(run.folder / name), load_artifact(Folder(f"{work}/{name}"))
        assert made and copy and made.fingerprint == copy.fingerprint
        assert {path: made.folder.read(path) for path in made.folder.files()} == {
            path: copy.folder.read(path) for path in copy.folder.files()
        }
    record = json.loads((run.folder / "dataset").read("record.json"))
    (run.folder / "dataset").write("record.json", json.dumps({**record, "fingerprint": "other"}).encode())
    with pytest.raises(InputError, match="has trainings on other examples than those of the run"):
        prune.bench(run.folder.url, work, student="small", order=order, profile="laptop")
    assert len(reached) == 2


def test_benchmark_of_layers_refuses_cuts_between_which_nothing_can_be_trained(toy: Workspace, tmp_path: Path) -> None:
    toy.save()
    raw = json.loads(toy.folder.read("run.json"))
    raw["contract"]["students"][0]["objectives"] = {"sft": 0, "dpo": {}}
    raw["contract"]["curation"]["preferences"] = {}
    toy.folder.write("run.json", json.dumps(raw).encode())
    said = refused("bench", "prune", str(toy.folder), "--work", str(tmp_path / "work"), "--student", "small", "--steps", "2")
    assert "--recover-steps: found 50, expected 0 for small" in said and not (tmp_path / "work").exists()
