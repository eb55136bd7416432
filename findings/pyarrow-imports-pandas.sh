#!/usr/bin/env bash
# pyarrow imports pandas to make an array of a list, and fails where pandas is kept from being imported.
#
# Guess:pyarrow does not depend on pandas: only to_pandas and from_pandas import it, so a command that needs no data frame
#       starts without.
# Seen: pa.array([1]) imports pandas if it is installed. sys.modules['pandas'] = None, which makes `import pandas` an
#       ImportError, as if it were not installed, makes pa.array raise AttributeError.
# With:  pyarrow 26.0.1, pandas 3.1.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1 pandas==3.1.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import subprocess
import sys
from importlib.metadata import version


def run(code: str) -> str:
    """Return the last line that a new interpreter prints, of its output or of its error."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return (done.stdout or done.stderr).strip().splitlines()[-1]


imported = run("import sys, pyarrow as pa; before = 'pandas' in sys.modules; pa.array([1]); print(before, 'pandas' in sys.modules)")
barred = run("import sys; sys.modules['pandas'] = None; import pyarrow as pa; pa.array([1]); print('made')")
print("pyarrow", version("pyarrow"), "pandas is imported before and after pa.array([1]):", imported)
print("with pandas barred:", barred)
assert imported == "False True"
assert barred.startswith("AttributeError")
PYTHON
