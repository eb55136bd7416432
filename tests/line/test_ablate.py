"""`rayleigh ablate --curve` and `--buckets` with real trainings: only what is missing is trained, and the report shows it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CONTRACT, ROOT = HERE / "tiny.yaml", HERE.parents[1]
pytestmark = [pytest.mark.modes, pytest.mark.timeout(3600)]
MORE = ("prompts.sources.0.take=64", "prompts.holdout.take=16", "curation.pick.validation=0.25", "specialist.niche.traffic=1000")


def rayleigh(*words):
    command = [sys.executable, "-m", "jobs.cli", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablate") / "run"
    changes = [word for change in MORE for word in ("--set", change)]
    rayleigh("run", CONTRACT, folder, "--profile", HERE / "profile.yaml", *changes)
    return folder


def trainings(run: Path):
    return {path.parent for path in run.glob("ablation/*/xs-*/record.json")}


def test_curve_is_measured_once_and_shown(run):
    before = json.loads(rayleigh("report", run, "--json"))["worth"]
    assert before["advice"]["word"] in ("unknown", "stop") and before["curve"] is None
    assert before["cost"]["teachers"] > 0 and before["cost"]["training"] > 0 and before["paybacks"][0]["student"] == "xs"
    curve = json.loads(rayleigh("ablate", run, "--curve", "--seeds", "2", "--epochs", "1", "--json"))
    assert [len(point["runs"]) for point in curve["points"]] == [2, 2, 2] and len(trainings(run)) == 6
    made = {path: path.stat().st_mtime_ns for path in run.glob("ablation/*/xs-*/record.json")}
    assert json.loads(rayleigh("ablate", run, "--curve", "--seeds", "2", "--epochs", "1", "--json")) == curve
    assert made == {path: path.stat().st_mtime_ns for path in run.glob("ablation/*/xs-*/record.json")}
    assert json.loads(rayleigh("report", run, "--json"))["worth"]["curve"] == curve
    assert "the page is older than these numbers" in rayleigh("report", run)


def test_buckets_of_one_seed_are_measured_and_not_accused(run):
    found = json.loads(rayleigh("ablate", run, "--buckets", "--seeds", "1", "--epochs", "1", "--json"))
    trained = [bucket for bucket in found["buckets"] if bucket["size"]]
    assert trained and {bucket["verdict"] for bucket in trained} == {"unclear"}
    assert all(bucket["left_out"] for bucket in found["buckets"] if not bucket["size"])
