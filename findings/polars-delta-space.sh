#!/usr/bin/env bash
# polars cannot read a Delta table whose path has a space.
#
# Guess:scan_delta and read_delta return the rows of a local table, as DeltaTable(path).to_pyarrow_table() does.
# Seen: the files' percent-encoded names are taken as file names: a folder `with space` is looked for as with%20space, and
#       FileNotFoundError is raised for a table that deltalake has written and reads.
# With:  polars 2.1.0, deltalake 1.6.6, pyarrow 26.0.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet polars==2.1.0 deltalake==1.6.6 pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

for folder in ("without", "with space"):
    write_deltalake(folder, pa.table({"id": ["a", "b"]}))
    print(folder, "read by deltalake:", DeltaTable(folder).to_pyarrow_table().num_rows)
print("polars", version("polars"), "without:", pl.read_delta("without").height)
try:
    pl.read_delta("with space")
except FileNotFoundError as error:
    print("with space: FileNotFoundError", "with%20space" in str(error))
    assert "with%20space" in str(error)
else:
    raise AssertionError("it was read")
PYTHON
