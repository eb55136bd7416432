#!/usr/bin/env bash
# Two ways to write "is not 1" keep different rows.
#
# Guess: ("x", "!=", 1) and ("x", "not in", [1]) are one filter, and SQL drops null for both.
# Seen:  read_table drops the row whose x is null with "!=", and keeps it with "not in"; DuckDB drops it with both.
# With:  pyarrow 26.0.1, duckdb 2.0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1 duckdb==2.0.0
"$folder/venv/bin/python" - <<'PYTHON'
import tempfile

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

with tempfile.TemporaryDirectory() as folder:
    path = f"{folder}/rows.parquet"
    pq.write_table(pa.table({"x": [1, None, 3]}), path)
    unequal, outside = (pq.read_table(path, filters=[rule])["x"].to_pylist() for rule in (("x", "!=", 1), ("x", "not in", [1])))
    sql = [duckdb.sql(f"select x from '{path}' where {rule}").fetchall() for rule in ("x <> 1", "x not in (1)")]
print("!=", unequal, "not in", outside, "DuckDB", sql)
assert unequal == [3] and outside == [None, 3] and sql == [[(3,)], [(3,)]]
PYTHON
