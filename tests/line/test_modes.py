"""Modes of the teachers on a real model, through the command: minutes each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.modes, pytest.mark.timeout(1200)]


def rayleigh(*words):
    """Return what the command prints."""
    done = subprocess.run([sys.executable, "-m", "jobs.cli", *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(run, query):
    """Return the answer to a query over a run."""
    return [json.loads(line) for line in rayleigh("sql", run, query, "--json").splitlines()]


def test_tools_mode_teaches_verified_trajectories_and_keeps_the_others(tmp_path):
    run = tmp_path / "run"
    rayleigh("run", "jobs/contracts/tools.yaml", run, "--until", "dataset")
    candidates = rows(run, "select answer_id, answer, ending, trajectory, pool, reasons from candidates")
    assert len(candidates) == 84 and all(one["reasons"] for one in candidates)
    verified = [one for one in candidates if one["pool"] in ("train", "hard", "refusal")]
    assert verified
    for one in verified:
        results = [turn["content"] for turn in one["trajectory"] if turn["role"] == "tool" and turn["ok"]]
        value = json.loads(one["answer"])["value"]
        assert results and bool(value) == bool(results[-1])  # null is said of a result that is empty, and of no other
    assert {one["pool"] for one in candidates if one not in verified} <= {"contrast", "failure"}
    examples = rows(run, "select example_id, messages, target from examples")
    calls, answers = ([one for one in examples if key in one["target"]] for key in ('"call"', '"answer"'))
    assert len(calls) >= len(answers) > 0 and len(calls) + len(answers) == len(examples)
    assert {one["example_id"].partition("-")[0] for one in examples} <= {one["answer_id"] for one in verified}
