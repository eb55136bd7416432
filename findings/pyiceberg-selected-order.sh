#!/usr/bin/env bash
# scan gives the selected columns in another order.
#
# Guess: scan(selected_fields=("b", "a")) gives the columns b and a in this order, as read_table(columns=["b", "a"]) of pyarrow
#        and SQL do.
# Seen:  they come in the order of the table, whatever was asked for: rows that are read by place, as tuples or a matrix, have
#        the two exchanged, without an error where the types are equal.
# With:  pyiceberg[sql-sqlite,pyarrow] 0.12.0, pyarrow 26.0.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyiceberg[sql-sqlite,pyarrow]==0.12.0 pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
from importlib.metadata import version

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog

rows = pa.table({"a": [1], "b": [2]})
catalog = SqlCatalog("local", uri="sqlite:///catalog.db", warehouse=f"file://{os.getcwd()}/warehouse")
catalog.create_namespace("space")
table = catalog.create_table("space.rows", schema=rows.schema)
table.append(rows)
iceberg = table.scan(selected_fields=("b", "a")).to_arrow()
pq.write_table(rows, "rows.parquet")
parquet = pq.read_table("rows.parquet", columns=["b", "a"])
print("pyiceberg", version("pyiceberg"), "asked for b, a:", iceberg.column_names, "pyarrow", parquet.column_names)
assert iceberg.column_names == ["a", "b"] and iceberg.num_rows == 1
assert parquet.column_names == ["b", "a"]
PYTHON
