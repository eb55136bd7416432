#!/usr/bin/env bash
# An empty string of a Parquet file is a missing value.
#
# Guess:a format with nulls of its own keeps an empty string apart from null; only in CSV are they the same.
# Seen: the default missingValues, one empty string, hold for Parquet too: an empty string is read as None, and the constraint
#       `required` refuses it. With missingValues: [] it is an empty string, and valid.
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
from frictionless import Resource, Schema

pq.write_table(pa.table({"text": ["yes", ""]}), "t.parquet")


def read(**schema: object) -> tuple[list[str | None], bool]:
    """Return the texts as they are read, and whether they are valid."""
    field = {"name": "text", "type": "string", "constraints": {"required": True}}
    resource = Resource(path="t.parquet", schema=Schema.from_descriptor({"fields": [field], **schema}))
    return [row["text"] for row in resource.read_rows()], resource.validate().valid


default, without = read(), read(missingValues=[])
print("frictionless", version("frictionless"))
print("default:          ", default)
print("missingValues: []:", without)
assert default == (["yes", None], False)
assert without == (["yes", ""], True)
PYTHON
