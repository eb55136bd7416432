#!/usr/bin/env bash
# What a number of a Parquet file is read as depends on the columns beside it.
#
# Guess:Parquet has types and nulls, so that a resource takes both from the file; only CSV needs guessing.
# Seen: types are guessed from the values that pandas gives for a row. A file of one column of 64-bit integers with a null is
#       read as number, its null as NaN; with a column of text beside it, as integer, its null as None. In both, 2**60 + 1
#       loses its last digit, without a warning.
# With:  frictionless[parquet] 5.21.0, pyarrow 26.0.1, pandas 3.1.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet frictionless[parquet]==5.21.0 pyarrow==26.0.1 pandas==3.1.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import pyarrow as pa
import pyarrow.parquet as pq
from frictionless import Resource

large = 2**60 + 1
numbers = pa.table({"n": pa.array([large, 3, None], pa.int64())})


def read(table: pa.Table) -> tuple[str, list[object]]:
    """Return the inferred type of the column n, and its values."""
    pq.write_table(table, "t.parquet")
    resource = Resource(path="t.parquet")
    resource.infer()
    return resource.schema.get_field("n").type, [row["n"] for row in resource.read_rows()]


alone, beside = read(numbers), read(numbers.append_column("text", pa.array(["a", "b", "c"])))
print("frictionless", version("frictionless"), "written", [large, 3, None])
print("alone:         ", *alone)
print("beside a text: ", *beside)
assert alone[0] == "number" and alone[1][2] != alone[1][2]  # NaN
assert beside == ("integer", [large - 1, 3, None])
assert int(alone[1][0]) != large
PYTHON
