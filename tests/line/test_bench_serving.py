"""Benchmarks of the server, through the command, on a very small model: that they run, and what must hold whatever the speed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from serve_world import PROFILE, ROOT, promote_tiny

from jobs.bench.overload import Overload
from jobs.bench.serve import ServeBench

pytestmark = [pytest.mark.benches, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return promote_tiny(tmp_path_factory.mktemp("bench"))


def bench(*words: object) -> str:
    command = [sys.executable, "-m", "jobs.cli", "bench", *map(str, words), "--profile", str(PROFILE), "--json"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "VLLM_"))}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=plain, timeout=2300)
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout


def test_server_takes_turns_with_vllm_and_with_itself_in_shadow(registry: Path) -> None:
    words = ["serve", registry, "--callers", 2, "--rounds", 2, "--seconds", 1, "--prompts", 8, "--shadow-share", 1]
    result = ServeBench.model_validate(json.loads(bench(*words)))
    [pair] = result.http
    assert pair.callers == 2 and len(pair.turns) == 2 and pair.same_texts == 1.0  # float32: no text moves with its company
    assert pair.per_second > 0 and pair.p95 > 0
    assert result.spans and len(result.spans.spans_per_second) == 2 and result.spans.ratio > 0
    assert result.shadow and result.shadow.same_texts == 1.0 and result.shadow_pairs > 0


def test_under_twice_its_load_a_server_refuses_at_once_and_answers_the_rest(registry: Path) -> None:
    words = ["overload", registry, "--minutes", 0.3, "--slow", 300, "--deadline", 5, "--queue", 8]
    result = Overload.model_validate(json.loads(bench(*words)))
    counts = {int(status): count for status, count in result.statuses.items()}
    assert set(counts) <= {200, 429, 504} and counts[200] > 0 and counts[429] > 0 and result.without_retry_after == 0
    assert counts.get(504, 0) <= 0.1 * counts[200]
    assert result.served_p95_ms is not None and result.served_p95_ms <= 5000
    assert [each.name for each in result.attacks if each.unexpected] == [] and result.slow and result.slow.silent == 0
    assert (result.after, result.exit_status) == (200, 0)
