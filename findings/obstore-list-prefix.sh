#!/usr/bin/env bash
# A prefix that S3 lists by finds nothing.
#
# Guess: list(store, prefix="run/part-") gives the objects whose names begin so, as the prefix of S3's and GCS' own listing does.
# Seen:  it gives nothing: a prefix is one or more whole segments of a path. "run" lists what is below run/ and not run2/, and
#        "run/part-" what is below a folder part-. No error.
# With:  obstore 0.12.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet obstore==0.12.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import obstore
from obstore.store import MemoryStore

store = MemoryStore()
for name in ("run/part-1.parquet", "run/part-2.parquet", "run2/part-1.parquet"):
    obstore.put(store, name, b"")
found = {prefix: [one["path"] for one in obstore.list(store, prefix=prefix).collect()] for prefix in ("run/part-", "run", "run/")}
print("obstore", version("obstore"), found)
assert found["run/part-"] == []
assert found["run"] == found["run/"] == ["run/part-1.parquet", "run/part-2.parquet"]
PYTHON
