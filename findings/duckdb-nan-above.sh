#!/usr/bin/env bash
# NaN passes every lower bound, or not, by what else is in the Parquet file.
#
# Guess: where score > 0.5 leaves out NaN, as IEEE 754, NumPy and pyarrow's filters do.
# Seen:  DuckDB sorts NaN above all numbers, so NaN passes; in a Parquet file it passes only if another value does, because the
#        row group's statistics leave NaN out.
# With:  duckdb 2.0.0, pyarrow 26.0.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet duckdb==2.0.0 pyarrow==26.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import tempfile

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

SQL = "select score from {} where score > 0.5 order by score"
low, high = (pa.table({"score": [0.1, float("nan"), last]}) for last in (0.3, 0.9))
memory = [duckdb.sql(SQL.format(name)).fetchall() for name in ("low", "high")]
with tempfile.TemporaryDirectory() as folder:
    paths = [f"{folder}/low.parquet", f"{folder}/high.parquet"]
    pq.write_table(low, paths[0])
    pq.write_table(high, paths[1])
    files = [duckdb.sql(SQL.format(f"'{path}'")).fetchall() for path in paths]
    arrow = [pq.read_table(path, filters=[("score", ">", 0.5)])["score"].to_pylist() for path in paths]
print("DuckDB, in memory", memory, "Parquet", files, "pyarrow", arrow)
assert str(memory) == "[[(nan,)], [(0.9,), (nan,)]]" and str(files) == "[[], [(0.9,), (nan,)]]" and arrow == [[], [0.9]]
PYTHON
