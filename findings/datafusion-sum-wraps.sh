#!/usr/bin/env bash
# The sum of three positive numbers is negative.
#
# Guess: a sum that does not fit is an error, as in Postgres, or has a wider type, as in DuckDB.
# Seen:  the sum of a column of 64-bit integers is one, and wraps: three times 2**62 are -2**62, without a word; a + as well. Of
#        uint32 and int32 the sum is right, in 64 bits.
# With:  datafusion 55.0.0, pyarrow 25.0.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datafusion==55.0.0 pyarrow==25.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import pyarrow as pa
from datafusion import SessionContext

context = SessionContext()
columns = {"wide": pa.array([2**62] * 3), "narrow": pa.array([2**31 - 1] * 3, pa.int32())}
context.from_arrow(pa.table(columns), name="counts")
row = context.sql("SELECT sum(wide) AS wide, sum(narrow) AS narrow, max(wide + wide) AS plus FROM counts").to_pylist()[0]
print("datafusion", version("datafusion"), row)
assert row == {"wide": -(2**62), "narrow": 3 * (2**31 - 1), "plus": -(2**63)}
PYTHON
