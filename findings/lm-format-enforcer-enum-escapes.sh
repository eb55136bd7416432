#!/usr/bin/env bash
# A value of enum is written without its escapes.
#
# Guess: the one text that enum: ["a\nb"] lets be written is "a\nb" with the line break escaped, as JSON has it.
# Seen:  the enforcer takes the value's own characters: of a line break it lets a raw one be written, which json.loads refuses,
#        and not the escaped one. A type string without enum can write it escaped.
# With:  lm-format-enforcer 0.11.3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet lm-format-enforcer==0.11.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
from importlib.metadata import version

from lmformatenforcer import JsonSchemaParser


def writes(schema, text):
    """Whether each character of the text is allowed, and the last may end it."""
    parser = JsonSchemaParser(schema)
    for letter in text:
        if letter not in parser.get_allowed_characters():
            return False
        parser = parser.add_character(letter)
    return parser.can_end()


value = "a\nb"
raw, escaped = f'"{value}"', json.dumps(value)
seen = {name: [writes(schema, raw), writes(schema, escaped)] for name, schema in {
    "enum": {"enum": [value]}, "const": {"const": value}, "string": {"type": "string"},
}.items()}
print("lm-format-enforcer", version("lm-format-enforcer"), "raw and escaped line break:", seen)
assert seen == {"enum": [True, False], "const": [True, False], "string": [False, True]}
try:
    json.loads(raw)
except json.JSONDecodeError as error:
    print("json.loads of what enum lets be written:", error.msg)
else:
    raise AssertionError("json.loads took the raw line break")
PYTHON
