#!/usr/bin/env bash
# Keywords that the grammar cannot hold are dropped without a word.
#
# Guess: a schema that the compiler accepts is the schema that is decoded.
# Seen:  uniqueItems, not, if/then, dependentRequired and an anyOf beside properties compile, warn of nothing, and hold nothing.
# With:  xgrammar 0.2.8
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet xgrammar==0.2.8
"$folder/venv/bin/python" - <<'PYTHON'
import json

import xgrammar

characters = [chr(code) for code in range(32, 127)]
compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo(characters))


def accepts(schema, text):
    """Whether the grammar of `schema` can write all of `text`."""
    matcher = xgrammar.GrammarMatcher(compiler.compile_json_schema(json.dumps(schema)), terminate_without_stop_token=True)
    return matcher.accept_string(text) and matcher.is_terminated()



INTEGERS = {"a": {"type": "integer"}, "b": {"type": "integer"}}
BROKEN = [  # a schema, and a text that does not fit it
    ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "[1, 1]"),
    ({"not": {"type": "integer"}}, "1"),
    ({"if": {"type": "integer"}, "then": {"minimum": 5}}, "1"),
    ({"type": "object", "properties": INTEGERS, "dependentRequired": {"a": ["b"]}}, '{"a": 1}'),
    ({"type": "object", "properties": INTEGERS, "required": ["a"], "anyOf": [{"required": ["b"]}]}, '{"a": 1}'),
]
written = [accepts(schema, text) for schema, text in BROKEN]
print("texts that break their schema and can be written:", written)
assert all(written)
PYTHON
