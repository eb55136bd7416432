"""`rayleigh init` of each kind of task leads from an empty folder to a report, on the default models."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.starters.seeds import HOLDOUT, KINDS

ROOT = Path(__file__).parents[2]
PROFILE = Path(__file__).with_name("profile.yaml")

pytestmark = [pytest.mark.init, pytest.mark.timeout(1800)]


def rayleigh(*words: object) -> str:
    command = [sys.executable, "-m", "jobs.cli", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_contract_of_init_runs_to_a_report(kind: str, tmp_path: Path) -> None:
    rayleigh("init", tmp_path / "new", "--kind", kind)
    rayleigh("run", tmp_path / "new" / "contract.yaml", tmp_path / "run", "--profile", PROFILE)
    report = json.loads(rayleigh("report", tmp_path / "run", "--json"))
    models = {model["role"]: model["metrics"]["exact_match"]["value"] for model in report["models"]}
    print(kind, models, "gate", report["gate"]["words"])
    assert report["holdout"]["rows"] == HOLDOUT and {"teacher", "student"} <= set(models)
    examples = json.loads(rayleigh("sql", tmp_path / "run", "select count(*) as n from examples", "--json"))
    assert examples["n"] >= 20  # enough to train on, and every one passed the checks
