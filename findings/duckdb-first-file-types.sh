#!/usr/bin/env bash
# read_parquet of several files rounds the numbers of the second.
#
# Guess: files whose types differ are read in a type that holds both, or the read raises, as pyarrow does.
# Seen:  the first file decides: if its scores happen to be whole numbers and are integers, the second's 1.4 and 1.6 are read as
#        1 and 2, without a word. union_by_name=true takes a type that holds both.
# With:  duckdb 2.0.0, pyarrow 26.0.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet duckdb==2.0.0 pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

pq.write_table(pa.table({"score": [1, 2]}), "part-0.parquet")
pq.write_table(pa.table({"score": [1.4, 1.6]}), "part-1.parquet")
first = duckdb.sql("SELECT score FROM read_parquet('part-*.parquet')").fetchall()
by_name = duckdb.sql("SELECT score FROM read_parquet('part-*.parquet', union_by_name = true)").fetchall()
try:
    ds.dataset(["part-0.parquet", "part-1.parquet"]).to_table()
    raised = ""
except pa.ArrowInvalid as error:
    raised = str(error)
print("duckdb", duckdb.__version__, "read", first, "with union_by_name", by_name, "pyarrow raises:", raised)
assert first == [(1,), (2,), (1,), (2,)]
assert by_name == [(1.0,), (2.0,), (1.4,), (1.6,)]
assert "truncated" in raised
PYTHON
