#!/usr/bin/env bash
# isnan finds no NaN in a Parquet file that holds one, and an upper bound lets it in.
#
# Guess: where isnan(x) finds NaN wherever it is, and x <= 1e308 leaves it out, as DuckDB sorts NaN above all numbers.
# Seen:  of a file by pyarrow's defaults, where isnan(x) and x = 'nan' have no row, and x between 1 and 1e308 has the NaN row as
#        well: the filter is decided by the row group's statistics, which leave NaN out. In memory, in a file without statistics
#        of x, and in the select list (isnan, not the bound) the counts are right.
# With:  duckdb 2.0.0, pyarrow 26.0.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet duckdb==2.0.0 pyarrow==26.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import tempfile

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

TESTS = ["isnan(x)", "x = 'nan'::double", "x between 1 and 1e308"]
memory = pa.table({"id": [1, 2, 3, 4], "x": [0.5, float("nan"), 2.0, None]})


def counts(source):
    """The rows of `source` that pass each test as a filter, and the NaN in it by the select list."""
    passed = [duckdb.sql(f"from {source} where {test}").fetchall() for test in TESTS]
    return [*(len(rows) for rows in passed), *duckdb.sql(f"select sum(isnan(x)::int)::int from {source}").fetchall()[0]]


with tempfile.TemporaryDirectory() as folder:
    pq.write_table(memory, f"{folder}/all.parquet")
    pq.write_table(memory, f"{folder}/id.parquet", write_statistics=["id"])
    seen = [counts(source) for source in ("memory", f"'{folder}/all.parquet'", f"'{folder}/id.parquet'")]
print(TESTS, "isnan in select; memory", seen[0], "Parquet", seen[1], "without statistics of x", seen[2])
assert seen[0] == seen[2] == [1, 1, 1, 1] and seen[1] == [0, 0, 2, 1]
PYTHON
