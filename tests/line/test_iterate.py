"""Two real rounds of `rayleigh iterate`, killed on the way: nothing is paid twice, the lineage is whole."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KILLED = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600), KILLED]


def command(root):
    words = ["iterate", HERE / "iterate.yaml", root, "--rounds", "2", "--profile", HERE / "profile.yaml", "--json"]
    return [sys.executable, "-m", "jobs.cli", *map(str, words)]


def answers(folder):
    """Ids of the answers in a ledger, once for each time that they were paid."""
    return [each for path in sorted(folder.glob("answers/**/*.parquet")) for each in pq.read_table(path)["answer_id"].to_pylist()]


def test_killed_iterate_goes_on_and_pays_for_no_prompt_twice(tmp_path):
    root = tmp_path / "rounds"
    process = subprocess.Popen(
        command(root), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 1800
    while not (root / "round-001" / "prompts" / "record.json").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "round 1 has no prompts"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    plan = (root / "round-001" / "round.json").read_bytes()
    assert not (root / "round-001" / "candidates" / "record.json").exists()

    done = subprocess.run(command(root), cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert (root / "round-001" / "round.json").read_bytes() == plan
    paid = answers(root / "ledger")
    assert len(paid) == len(set(paid))
    first, second = result["outcomes"]
    assert second["prompts"] == first["prompts"] + sum(second["added"].values()) == len(paid)
    assert 0 < second["paid_tokens"] < first["paid_tokens"]
    lineage = result["plans"][1]
    assert lineage["before"] == str(root / "round-000") and lineage["slices"] and lineage["begins"] == {"xs": second["champion"]}
    assert second["gain"]["low"] <= second["gain"]["value"] <= second["gain"]["high"] and second["gain"]["n"] == 16
    report = json.loads((root / "round-001" / "reports" / "report.json").read_text())
    assert "champion" in {model["role"] for model in report["models"]}
    assert result["ended"] == "rounds: 2 were ordered"
