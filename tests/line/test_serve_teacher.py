"""A student and a teacher of vLLM in one server: both answer as each does alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from serve_world import ROOT

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(600)


def test_two_engines_of_one_server_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), str(HERE)])
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "VLLM_"))}
    words = [sys.executable, str(HERE / "serve_two.py"), str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env={**plain, "PYTHONPATH": path}, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "equal"
