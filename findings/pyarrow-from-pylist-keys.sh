#!/usr/bin/env bash
# A key that the first row lacks is dropped from every row.
#
# Guess: Table.from_pylist has a column for each key of the rows, as pa.array of the same rows has, or it raises.
# Seen:  the first row decides: with [{"a": 1}, {"a": 2, "b": 3}] the column b is gone, without a warning.
# With:  pyarrow 26.0.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import pyarrow as pa

rows = [{"a": 1}, {"a": 2, "b": 3}]
table, array = pa.Table.from_pylist(rows), pa.array(rows)
print("Table.from_pylist", table.to_pylist(), "array", array.to_pylist())
assert table.column_names == ["a"] and array.to_pylist() == [{"a": 1, "b": None}, {"a": 2, "b": 3}]
PYTHON
