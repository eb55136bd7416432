#!/usr/bin/env bash
# delete removes rows that a scan with the same filter does not return.
#
# Guess: table.delete(filter) removes the rows that table.scan(filter) returns: a scan is how one looks before one deletes.
# Seen:  of the filter x != 1 a scan returns no row whose x is null. delete removes such rows where all x of their data file are
#        null, without a word, and keeps them in other files: what a row loses depends on how the rows were appended.
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
from pyiceberg.catalog.sql import SqlCatalog

schema = pa.schema({"id": pa.int64(), "x": pa.int64()})
catalog = SqlCatalog("local", uri="sqlite:///catalog.db", warehouse=f"file://{os.getcwd()}/warehouse")
catalog.create_namespace("space")


def rows(name, *files):
    """The ids that a scan for x != 1 returns, and those that a delete removes, of a table of these data files."""
    table = catalog.create_table(f"space.{name}", schema=schema)
    for ids, values in files:
        table.append(pa.table({"id": ids, "x": values}, schema=schema))
    before, scanned = table.scan().to_arrow()["id"].to_pylist(), table.scan(row_filter="x != 1").to_arrow()["id"].to_pylist()
    table.delete("x != 1")
    after = table.scan().to_arrow()["id"].to_pylist()
    return sorted(scanned), sorted(set(before) - set(after))


one = rows("one", ([1, 2, 3], [1, 2, None]))
two = rows("two", ([1, 2], [1, 2]), ([3], [None]))
print("pyiceberg", version("pyiceberg"), "ids scanned and deleted, x is 1, 2, null in one file:", one, "null in its own:", two)
assert one == ([2], [2])
assert two == ([2], [2, 3])
PYTHON
