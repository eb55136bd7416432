"""`rayleigh search` on real Ray Tune, Optuna, Ray Train and DeepSpeed: killed, resumed, ranked, and the winner trained again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import students_world as world
import yaml

from engine.contract.load import load_contract
from engine.records.search import SearchResult
from engine.rows import EXAMPLE, from_rows
from engine.runs.recipe import identify
from engine.storage.artifact import RowCounts, load_artifact
from engine.storage.folder import Folder
from jobs import workspace
from jobs.commands.search_table import TRIAL
from jobs.commands.sql import Views
from jobs.pipeline import pipeline

pytestmark = pytest.mark.search  # minutes: processes of Tune, Train and DeepSpeed for each trial
ROOT = Path(__file__).parents[2]
STUDENT = {"name": "small", "init": {"prune": {"source": "teacher", "layers": [0, 2]}}, **world.SHORT}
CONTRACT = {
    "name": "toy",
    "specialist": {"goal": "copy", "task_units": [{"name": "copy", "kind": "rewrite"}]},
    "prompts": {
        "sources": [{"path": "seeds.jsonl", "licence": "CC0-1.0"}],
        "holdout": {"path": "seeds.jsonl", "labels": "rule"},
    },
    "teachers": {"mode": "direct", "models": [{"name": "t", "model": {"type": "fake"}}]},
    "judges": {},
    "curation": {"semantic": None},
    "students": [STUDENT],
    "gate": {},
}
SPACE = {
    "student": "small",
    "keys": {
        "learning_rate": {"low": 1e-5, "high": 1e-2, "scale": "log"},
        "init.prune.layers": {"choices": [[0, 2], [0, 1, 2]]},
        "batch_size": {"choices": [8, 16]},
    },
    "budget": {"trials": 4},
    "early_kill": {"grace": 1, "reduction": 2},
    "at_once": 2,
    "seeds": 2,
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a contract, a space, and a run whose dataset is finished."""
    folder = tmp_path_factory.mktemp("search")
    rows = world.examples()
    world.write_teacher(folder / "teacher", [row["messages"][0]["content"] + row["target"] for row in rows])
    (folder / "seeds.jsonl").write_text('{"input": "say a", "reference": "a!"}\n')
    (folder / "toy.yaml").write_text(yaml.safe_dump(CONTRACT))
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    (folder / "profile.yaml").write_text("name: test\nray: {num_cpus: 8, object_store_gib: 0.1}\ntrainer: {cpus: 0.5}\n")
    work = workspace.create(str(folder / "toy.yaml"), str(folder / "run"), profile=str(folder / "profile.yaml"), changes=[])
    work.save()
    for job in [job for job in pipeline(work.contract) if job.name in ("prompts", "candidates", "dataset")]:
        context = work.context(job, log=print, progress=print)
        if job.name == "dataset":
            context.writer.put("examples", from_rows(rows, EXAMPLE), EXAMPLE)
        context.writer.finish(identify(context), RowCounts(len(rows), {"rows": len(rows)}))
    return folder


def start(folder: Path) -> subprocess.Popen:
    """Start the command; its output goes to two files."""
    words = ["search", folder / "toy.yaml", folder / "run", "--space", folder / "space.yaml"]
    words += ["--profile", folder / "profile.yaml", "--json"]
    command = [sys.executable, "-m", "jobs.cli", *map(str, words)]
    with (folder / "out").open("w") as out, (folder / "err").open("a") as err:
        return subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


def notes(folder: Path) -> Iterator[dict]:
    """The trials in the ledger."""
    for path in (folder / "run" / "ledger" / "search" / "small").glob("*/*.json"):
        yield json.loads(path.read_text())


@pytest.fixture(scope="module")
def result(toy: Path) -> SearchResult:
    """The result of a search whose driver was killed once, after the first trial had ended."""
    driver = start(toy)
    while driver.poll() is None and not any(note["status"] == "finished" for note in notes(toy)):
        time.sleep(0.2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = {note["trial"]: note for note in notes(toy) if note["status"] != "running"}
    assert before, (toy / "err").read_text()[-3000:]
    driver = start(toy)
    assert driver.wait(timeout=280) == 0, (toy / "err").read_text()[-3000:]
    after = {note["trial"]: note for note in notes(toy)}
    assert {key: after[key] for key in before} == before  # what had ended was not trained again
    return SearchResult.model_validate_json((toy / "out").read_text())


def test_trials_are_ranked_and_all_are_in_the_table(toy, result):
    assert len(result.trials) == 4 and result.ended_by == "trials"
    finished = [trial.score for trial in result.trials if trial.status == "finished"]
    assert finished == sorted(finished, reverse=True) and result.winner == result.trials[0]
    assert {trial.status for trial in result.trials} <= {"finished", "killed"}
    table = load_artifact(Folder(str(toy / "run" / "search" / "small" / "table"))).read("trials", TRIAL)
    assert table["trial"].to_pylist() == [trial.trial for trial in result.trials]
    assert json.loads(table["values"][0].as_py()) == result.winner.values
    assert len(Views(str(toy / "run")).rows("select * from trials where rank = 1 and student = 'small'")) == 1
    assert result.tokens == sum(trial.tokens for trial in result.trials) > 0


def test_winner_is_a_contract_that_runs_and_was_trained_over_the_seeds(toy, result):
    loaded = load_contract(Path(result.contract)).contract
    [student] = loaded.students
    assert student.seeds == 2 and student.learning_rate == result.winner.values["learning_rate"]
    assert student.init.prune.source == str(toy / "teacher") and set(result.spread) >= {"loss"}


def test_a_second_call_trains_nothing(toy, result):
    driver = start(toy)
    assert driver.wait(timeout=120) == 0
    assert SearchResult.model_validate_json((toy / "out").read_text()) == result
