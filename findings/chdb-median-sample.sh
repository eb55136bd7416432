#!/usr/bin/env bash
# The median of a column is that of a sample.
#
# Guess: median and quantile of SQL are exact, as DuckDB's and Postgres' are, or say in their name that they are not.
# Seen:  beyond some 8,000 values they are those of a random sample: the median of the numbers 0 to 99,999 is 50,501.5, one percent
#        of the range away, the same at each call. medianExact gives 50,000.
# With:  chdb 4.4.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet chdb==4.4.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from chdb import query


def values(select):
    """The row of one query."""
    return [float(value) for value in str(query(select, "CSV")).split(",")]


small = values("SELECT median(number), medianExact(number) FROM numbers(1001)")
large = values("SELECT median(number), quantile(0.5)(number), medianExact(number) FROM numbers(100000)")
print("chdb", version("chdb"), "of 1001:", small, "of 100,000:", large)
assert small == [500, 500]
assert large[0] == large[1] == 50501.5
assert large[2] == 50000
PYTHON
