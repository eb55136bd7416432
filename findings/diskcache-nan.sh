#!/usr/bin/env bash
# A score that is NaN comes back as None.
#
# Guess: a cache returns what was stored: a float is a float, NaN as well.
# Seen:  NaN alone comes back as None, which is what get returns for a key that is not there: a result that was computed is
#        computed again, each time. In a list it comes back as NaN; infinity comes back as it is. A float goes to SQLite as it
#        is, and SQLite stores NaN as NULL; what is in a list is pickled.
# With:  diskcache 5.6.3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diskcache==5.6.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import math
from importlib.metadata import version

from diskcache import Cache

cache = Cache("cache")
cache["nan"], cache["list"], cache["infinity"] = math.nan, [math.nan], math.inf
seen = {name: cache[name] for name in ("nan", "list", "infinity")}
print("diskcache", version("diskcache"), seen, "there:", "nan" in cache, "get:", cache.get("nan"))
assert "nan" in cache
assert seen["nan"] is None
assert math.isnan(seen["list"][0])
assert seen["infinity"] == math.inf
PYTHON
