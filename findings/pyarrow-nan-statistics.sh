#!/usr/bin/env bash
# A filter for NaN finds none in a Parquet file that has some.
#
# Guess: a filter gives the same rows when it is pushed down to a Parquet file as when it is applied to the table that was read:
#        statistics only skip what cannot match.
# Seen:  the statistics of a row group leave NaN out. Where its other values are all equal, is_nan and != to this value return
#        nothing, and where they differ, ~(x < 5) loses the NaN. Of the table in memory each filter gives it, and of a file
#        without statistics too.
# With:  pyarrow 26.0.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

score = pc.field("score")
FILTERS = {"is_nan": pc.is_nan(score), "!= 1": score != 1.0, "not < 5": ~(score < 5.0)}


def found(values, **options):
    """How many NaN each filter finds among the values: in the file and in memory."""
    pq.write_table(pa.table({"score": values}), "scores.parquet", **options)
    table = pq.read_table("scores.parquet")

    def count(rows):
        return sum(value != value for value in rows["score"].to_pylist())

    return {name: (count(pq.read_table("scores.parquet", filters=f)), count(table.filter(f))) for name, f in FILTERS.items()}


equal, others = found([1.0, float("nan")]), found([1.0, 2.0, float("nan")])
without = found([1.0, float("nan")], write_statistics=False)
print("pyarrow", pa.__version__, "NaN found in file and memory, beside equal values:", equal, "beside others:", others)
print("without statistics:", without)
assert equal == {"is_nan": (0, 1), "!= 1": (0, 1), "not < 5": (0, 1)}
assert others == {"is_nan": (1, 1), "!= 1": (1, 1), "not < 5": (0, 1)}
assert without == {"is_nan": (1, 1), "!= 1": (1, 1), "not < 5": (1, 1)}
PYTHON
