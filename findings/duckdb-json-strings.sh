#!/usr/bin/env bash
# JSON strings come back as dates and UUIDs, in another spelling.
#
# Guess: JSON has types, so read_json gives a string back as it was written; only CSV needs guessing.
# Seen:  strings that look like a date or a UUID become DATE and UUID: 550E8400-... comes back in lower case, so ids no longer
#        match; a number over 2^63 becomes a double, without its last digits.
# With:  duckdb 2.0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet duckdb==2.0.0
"$folder/venv/bin/python" - <<'PYTHON'
import json
import tempfile
from pathlib import Path

import duckdb

ROW = {"id": "550E8400-E29B-41D4-A716-446655440000", "text": "2024-01-05", "seed": 12345678901234567891234}
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    relation = duckdb.sql(f"from read_json('{path}')")
    types, [row] = [str(kind) for kind in relation.types], relation.fetchall()
print(types, [str(value) for value in row])
assert types == ["UUID", "DATE", "DOUBLE"] and str(row[0]) == ROW["id"].lower() and int(row[2]) != ROW["seed"]
PYTHON
