#!/usr/bin/env bash
# A sum of whole numbers is written to Parquet as floating point.
#
# Guess: the sum of a BIGINT column is a whole number, and Parquet has decimals for those above 64 bits, so COPY writes it
#        exactly, or refuses.
# Seen:  sum gives a HUGEINT, and COPY writes HUGEINT as DOUBLE: 2**53 + 1 comes back as 2**53, a float, without a word, and
#        small totals are floats too. Cast to BIGINT, or to DECIMAL(38, 0), it is exact; to an Arrow table the same query gives
#        a decimal.
# With:  duckdb 2.0.0, pyarrow 26.0.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet duckdb==2.0.0 pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

duckdb.sql("CREATE TABLE usage AS SELECT 9007199254740993::BIGINT AS tokens")
query = "SELECT sum(tokens) AS total FROM usage"
seen = {}
for name, text in {"as it is": query, "as BIGINT": f"SELECT total::BIGINT AS total FROM ({query})"}.items():
    duckdb.sql(f"COPY ({text}) TO 'total.parquet'")
    column = pq.read_table("total.parquet")["total"]
    seen[name] = (str(column.type), column[0].as_py())
arrow = duckdb.sql(query).to_arrow_table()["total"]
print("duckdb", duckdb.__version__, "sum of 2**53 + 1 in Parquet:", seen, "in Arrow:", arrow.type, arrow[0].as_py())
assert seen == {"as it is": ("double", 2.0**53), "as BIGINT": ("int64", 2**53 + 1)}
assert pa.types.is_decimal(arrow.type) and int(arrow[0].as_py()) == 2**53 + 1
PYTHON
