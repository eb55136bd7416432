"""What one task of curation holds does not grow with the vectors of all rows."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = 40_000
ORDER = "k_center"  # looks at all vectors for each pick
MOST = 500  # bytes a row; a vector alone takes 1,536

# Memory that is freed is given back, so that the peak is that of one task.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}


def test_one_task_holds_few_bytes_a_row_however_many_rows_there_are(tmp_path):
    command = [sys.executable, str(Path(__file__).with_name("memory_world.py")), str(ROWS), str(tmp_path), ORDER]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **ALLOCATOR}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) / ROWS < MOST, f"{int(done.stdout) / ROWS:.0f} bytes a row, expected at most {MOST}"
