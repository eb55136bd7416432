"""What one task of curation holds does not grow with the vectors of all rows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = 40_000
MOST = 500  # bytes a row; a vector alone takes 1,536


@pytest.mark.parametrize("order", ["typical", "k_center"])
def test_one_task_holds_few_bytes_a_row_however_many_rows_there_are(order, tmp_path):
    command = [sys.executable, str(Path(__file__).with_name("memory_world.py")), str(ROWS), str(tmp_path), order]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) / ROWS < MOST, f"{int(done.stdout) / ROWS:.0f} bytes a row, expected at most {MOST}"
