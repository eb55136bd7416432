"""Rounds on real vLLM, Ray Train and DeepSpeed, through the command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.records.status import Status
from engine.records.student import StudentMetrics
from engine.storage.artifact import load_artifact
from engine.storage.folder import Folder

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
pytestmark = [pytest.mark.modes, pytest.mark.timeout(900)]


def rayleigh(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which two students were trained, with rounds of each kind."""
    folder = tmp_path_factory.mktemp("rounds") / "run"
    for student in ("rewarded", "taught"):
        words = ["run", HERE / "on_policy.yaml", folder, "--profile", HERE / "profile.yaml", "--until", f"students/{student}"]
        rayleigh(*words)
    return folder


def metrics(run: Path, student: str) -> StudentMetrics:
    artifact = load_artifact(Folder(str(run / "students" / student)))
    assert artifact is not None
    return artifact.metrics(StudentMetrics)


def test_students_learn_from_samples_that_vllm_drew(run: Path) -> None:
    rewarded, taught = (metrics(run, name).on_policy for name in ("rewarded", "taught"))
    assert rewarded and taught
    for found in (rewarded, taught):
        assert found.ended_by in ("rounds", "no_signal"), found.why
        assert found.rounds[0].held_out.answers == 6 and found.rounds[0].held_out.entropy > 0
    assert taught.ended_by == "rounds" and taught.kept == 1 and taught.rounds[0].samples == 16
    assert taught.rounds[0].aligned is not None and taught.rounds[0].aligned > 0.9
    assert taught.rounds[0].score is not None and taught.rounds[0].score < 0  # minus a divergence
    assert all((run / "students" / name / "model" / "model.safetensors").exists() for name in ("rewarded", "taught"))


def test_a_student_that_is_made_again_samples_and_scores_nothing(run: Path) -> None:
    """The artifact is lost, not the ledger: rounds, samples and scores are still there."""
    before, files = metrics(run, "taught"), sorted((run / "ledger").rglob("*.parquet"))
    subprocess.run(["rm", "-r", str(run / "students" / "taught")], check=True)
    rayleigh("run", HERE / "on_policy.yaml", run, "--profile", HERE / "profile.yaml", "--until", "students/taught")
    assert metrics(run, "taught").on_policy == before.on_policy
    assert [path for path in sorted((run / "ledger").rglob("*.parquet")) if "on_policy_rounds" not in str(path)] == [
        path for path in files if "on_policy_rounds" not in str(path)
    ]


def test_status_has_the_rounds(run: Path) -> None:
    status = Status.model_validate(json.loads(rayleigh("status", run, "--json")))
    assert {each.name: len(each.rounds) for each in status.rounds}["taught"] == 1
    assert "kept: 1" in rayleigh("status", run)
