#!/usr/bin/env bash
# A column of integers with a missing value loses the last digits of large ones.
#
# Guess:Parquet holds 64-bit integers and their nulls, so a field of type Integer gives them back.
# Seen: the file is read through pandas, where an integer column with a null becomes one of doubles: 2**60 + 1 comes back as
#       2**60, an int, without a warning. Without the null it is right.
# With:  mlcroissant 1.1.1, pyarrow 26.0.1, pandas 3.1.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mlcroissant==1.1.1 pyarrow==26.0.1 pandas==3.1.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import hashlib
import json
import logging
from importlib.metadata import version
from pathlib import Path

import mlcroissant as mlc
import pyarrow as pa
import pyarrow.parquet as pq

logging.disable()  # it recommends fields that are left out here


def read(values: list[int | None]) -> list[int | None]:
    """Write the values to a Parquet file, describe it, and read them as records."""
    pq.write_table(pa.table({"n": pa.array(values, pa.int64())}), "t.parquet")
    file = mlc.FileObject(
        id="file",
        name="file",
        content_url="t.parquet",
        encoding_formats=["application/x-parquet"],
        sha256=hashlib.sha256(Path("t.parquet").read_bytes()).hexdigest(),
    )
    source = mlc.Source(file_object="file", extract=mlc.Extract(column="n"))
    field = mlc.Field(id="rows/n", name="n", data_types=[mlc.DataType.INTEGER], source=source)
    described = mlc.Metadata(
        name="t", url="https://example.org", distribution=[file], record_sets=[mlc.RecordSet(id="rows", name="rows", fields=[field])]
    )
    Path("croissant.json").write_text(json.dumps(described.to_json(), default=str))
    return [record["rows/n"] for record in mlc.Dataset("croissant.json").records("rows")]


large = 2**60 + 1
whole, missing = read([large, 3]), read([large, 3, None])
print("mlcroissant", version("mlcroissant"), "written", large)
print("read, no null:  ", whole)
print("read, one null: ", missing)
assert whole == [large, 3]
assert missing == [large - 1, 3, None] and isinstance(missing[0], int)
PYTHON
