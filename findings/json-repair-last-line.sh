#!/usr/bin/env bash
# Of three JSON lines the last is left.
#
# Guess: loads of several values in a row returns the list of them, as it does of {"a": 1} and {"b": 2}.
# Seen:  a value replaces the one before it if both have the same keys and types: three records of one kind come back as the
#        third alone, a dict and no list, and [1] and [2] as [2]. With text between them both records are kept. Nothing tells of
#        it, unless strict=True raises.
# With:  json-repair 0.64.6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet json-repair==0.64.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from json_repair import loads

lines = '{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n{"id": 3, "text": "three"}\n'
seen = {name: loads(text) for name, text in {
    "records": lines,
    "other keys": '{"a": 1}\n{"b": 2}',
    "lists": "[1]\n[2]",
    "text between": 'First {"a": 1}, then {"a": 2}.',
}.items()}
print("json-repair", version("json-repair"), seen)
assert seen["records"] == {"id": 3, "text": "three"}
assert seen["other keys"] == [{"a": 1}, {"b": 2}]
assert seen["lists"] == [2]
assert seen["text between"] == [{"a": 1}, {"a": 2}]
try:
    loads(lines, strict=True)
except ValueError as error:
    print("strict:", error)
else:
    raise AssertionError("strict took three records")
PYTHON
