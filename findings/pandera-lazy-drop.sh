#!/usr/bin/env bash
# drop_invalid_rows drops nothing from a LazyFrame.
#
# Guess: a schema with drop_invalid_rows=True returns the valid rows, of a polars DataFrame as of a LazyFrame, which is
#        collected later.
# Seen:  of a LazyFrame names and types are checked and no values, so the invalid rows come through to collect, though dropping
#        them was asked for; nothing warns. PANDERA_VALIDATION_DEPTH=SCHEMA_AND_DATA changes it.
# With:  pandera 0.35.0, polars 2.1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pandera==0.35.0 polars==2.1.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
import subprocess
import sys
from importlib.metadata import version

PROGRAM = """
import pandera.polars as pa
import polars as pl

schema = pa.DataFrameSchema({"score": pa.Column(int, pa.Check.ge(0))}, drop_invalid_rows=True)
rows = pl.DataFrame({"score": [1, -1]})
print(schema.validate(rows, lazy=True)["score"].to_list(), schema.validate(rows.lazy(), lazy=True).collect()["score"].to_list())
"""


def scores(**environment):
    """What is left of the scores 1 and -1: of a DataFrame, and of a LazyFrame."""
    told = subprocess.run([sys.executable, "-c", PROGRAM], env=os.environ | environment, capture_output=True, text=True, check=True)
    return told.stdout.strip()


default, values = scores(), scores(PANDERA_VALIDATION_DEPTH="SCHEMA_AND_DATA")
print("pandera", version("pandera"), "DataFrame and LazyFrame:", default, "with the values checked:", values)
assert default == "[1] [1, -1]"
assert values == "[1] [1]"
PYTHON
