#!/usr/bin/env bash
# A column of unsigned integers becomes a signed one of the same width.
#
# Guess:Delta has no unsigned types, so uint8 is refused, or becomes the next wider type that holds its values, as in Spark.
# Seen: uint8 becomes byte and uint32 becomes integer without a warning: the table is made, small values come back as int8,
#       and the first value above 127 fails as it is written.
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
from deltalake.exceptions import DeltaError

small = pa.table({"byte": pa.array([1, 127], pa.uint8()), "word": pa.array([1, 2], pa.uint32())})
write_deltalake("t", small)
types = {field.name: field.type.type for field in DeltaTable("t").schema().fields}
print("deltalake", version("deltalake"), "uint8 and uint32 became", types)
assert types == {"byte": "byte", "word": "integer"}
try:
    write_deltalake("t", pa.table({"byte": pa.array([200], pa.uint8()), "word": pa.array([1], pa.uint32())}), mode="append")
except DeltaError as error:
    print("200 in the column of uint8:", str(error).splitlines()[0][-60:])
else:
    raise AssertionError("200 was written")
PYTHON
