#!/usr/bin/env bash
# A date-time cannot have an offset.
#
# Guess: format: date-time takes what RFC 3339 does, as JSON Schema has it: Z or an offset, one of them, and any fraction of a
#        second.
# Seen:  an offset cannot be written, so neither can what datetime.now(UTC).isoformat() gives, and a model that copies a date
#        from its prompt must change it; a time without Z, which RFC 3339 refuses, can. A fraction has three digits or none.
# With:  outlines-core 0.2.14
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet outlines-core==0.2.14
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import re
from importlib.metadata import version

from outlines_core.json_schema import build_regex_from_schema

expression = build_regex_from_schema(json.dumps({"type": "string", "format": "date-time"}))
times = {
    "2024-02-01T10:00:00Z": True,
    "2024-02-01T10:00:00.500Z": True,
    "2024-02-01T10:00:00": True,
    "2024-02-01T10:00:00+02:00": False,
    "2024-02-01T10:00:00+00:00": False,
    "2024-02-01T10:00:00.5Z": False,
}
seen = {time: bool(re.fullmatch(expression, json.dumps(time))) for time in times}
print("outlines-core", version("outlines-core"), "date-time takes", seen)
assert seen == times
PYTHON
