#!/usr/bin/env bash
# allOf of two objects is one object after the other.
#
# Guess: what fits allOf fits each of its schemas; a keyword that the builder cannot hold is refused, as `not` is.
# Seen:  the regular expression of allOf is the schemas' expressions in a row: of two objects it takes {"a":1}{"b":2}, which is
#        no JSON, and not {"a":1,"b":2}, which fits the schema.
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


def part(name):
    """An object with one required integer."""
    return {"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]}


expression = build_regex_from_schema(json.dumps({"allOf": [part("a"), part("b")]}))
seen = {text: bool(re.fullmatch(expression, text)) for text in ('{"a":1,"b":2}', '{"a":1}{"b":2}')}
print("outlines-core", version("outlines-core"), "allOf takes", seen)
assert seen == {'{"a":1,"b":2}': False, '{"a":1}{"b":2}': True}
try:
    build_regex_from_schema(json.dumps({"not": part("a")}))
except ValueError as error:
    print("not:", str(error).splitlines()[0])
else:
    raise AssertionError("not was accepted")
PYTHON
