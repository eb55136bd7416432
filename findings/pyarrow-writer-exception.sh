#!/usr/bin/env bash
# A writer that an exception ends leaves a valid Parquet file.
#
# Guess: a Parquet file can be read once its footer is written, so that the file of a job that failed half-way cannot be taken
#        for a whole one.
# Seen:  ParquetWriter writes the footer when an exception leaves its `with`, and without `with` when the program ends by an
#        exception, as the writer is collected: the file has the rows written so far, is read without a warning, and passes as
#        complete.
# With:  pyarrow 26.0.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq

PROGRAM = """
import pyarrow as pa
import pyarrow.parquet as pq

schema = pa.schema({"x": pa.int64()})


def fill(writer):
    writer.write_table(pa.table({"x": [1, 2]}))
    raise RuntimeError("the source of the rows is gone")


"""
WAYS = {
    "with": "with pq.ParquetWriter('rows.parquet', schema) as writer:\n    fill(writer)",
    "without": "fill(pq.ParquetWriter('rows.parquet', schema))",
}
for name, end in WAYS.items():
    failed = subprocess.run([sys.executable, "-c", PROGRAM + end], capture_output=True, text=True)
    rows = pq.read_table("rows.parquet").num_rows
    print("pyarrow", pa.__version__, name, "a context manager:", failed.stderr.splitlines()[-1], "- rows in the file:", rows)
    assert failed.returncode == 1 and "the source of the rows is gone" in failed.stderr
    assert rows == 2
PYTHON
