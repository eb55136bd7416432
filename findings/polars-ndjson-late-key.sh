#!/usr/bin/env bash
# A key that first comes in line 101 is dropped.
#
# Guess: a reader of JSON lines has a column for each key of the file, as DuckDB's and pyarrow's have, or raises at a key that
#        it did not expect.
# Seen:  the columns are those of the first 100 lines (infer_schema_length): a key that comes later, as the error of a rare
#        failure, is left out by read_ndjson and scan_ndjson, at the top and in a struct, without a word, though another type in
#        a late line raises. infer_schema_length=None reads it.
# With:  polars 2.1.0, pyarrow 26.0.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet polars==2.1.0 pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
from pathlib import Path

import polars as pl
import pyarrow.json

lines = [{"id": place, "usage": {"tokens": 1}} for place in range(100)]
lines.append({"id": 100, "error": "timeout", "usage": {"tokens": 1, "retries": 3}})
Path("log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
read, lazy = pl.read_ndjson("log.jsonl"), pl.scan_ndjson("log.jsonl").collect()
whole = pl.read_ndjson("log.jsonl", infer_schema_length=None)
last = lines[-1]
print("polars", pl.__version__, "last line", last, "read as", read.row(-1, named=True))
assert read.row(-1, named=True) == lazy.row(-1, named=True) == {"id": 100, "usage": {"tokens": 1}}
assert whole.row(-1, named=True) == pyarrow.json.read_json("log.jsonl").to_pylist()[-1] == last
PYTHON
