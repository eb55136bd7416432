#!/usr/bin/env bash
# delete of the rows with x = 1 removes rows whose x is NaN.
#
# Guess: NaN is equal to nothing, so the predicate x = 1.0 leaves a row of NaN alone, as it does in a query.
# Seen:  where the other values of its data file are all 1, the file is removed whole, with its NaN, since the statistics leave
#        NaN out; beside another value, or alone in its file, NaN stays. A read with the same filter does not return it.
# With:  deltalake 1.6.6, pyarrow 26.0.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet deltalake==1.6.6 pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

nan = float("nan")


def rows(name, *files):
    """How many rows of NaN a read with x = 1 returns, and how many are left once the rows with x = 1 are deleted."""
    for values in files:
        write_deltalake(name, pa.table({"x": values}), mode="append")

    def nans(**options):
        return sum(value != value for value in DeltaTable(name).to_pyarrow_table(**options)["x"].to_pylist())

    read = nans(filters=[("x", "=", 1.0)])
    DeltaTable(name).delete("x = 1.0")
    return read, nans()


seen = {"beside 1": rows("a", [1.0, nan]), "beside 1 and 2": rows("b", [1.0, 2.0, nan]), "alone": rows("c", [1.0], [nan])}
print("deltalake", version("deltalake"), "NaN read with x = 1, and left after the delete:", seen)
assert seen == {"beside 1": (0, 0), "beside 1 and 2": (0, 1), "alone": (0, 1)}
PYTHON
