#!/usr/bin/env bash
# A pattern must match the whole string, where JSON Schema searches.
#
# Guess: pattern: "a" holds for "cat", as the JSON Schema specification and the package jsonschema have it (a search, no
#        anchors).
# Seen:  the grammar of pattern "a" can write "a" and nothing longer.
# With:  xgrammar 0.2.8, jsonschema 4.26.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet xgrammar==0.2.8 jsonschema==4.26.0
"$folder/venv/bin/python" - <<'PYTHON'
import json

import xgrammar

characters = [chr(code) for code in range(32, 127)]
compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo(characters))


def accepts(schema, text):
    """Whether the grammar of `schema` can write all of `text`."""
    matcher = xgrammar.GrammarMatcher(compiler.compile_json_schema(json.dumps(schema)), terminate_without_stop_token=True)
    return matcher.accept_string(text) and matcher.is_terminated()



import jsonschema

SCHEMA = {"type": "string", "pattern": "a"}
jsonschema.validate("cat", SCHEMA)  # raises if it does not hold
written = [accepts(SCHEMA, text) for text in ('"a"', '"cat"')]
print('"a", "cat":', written)
assert written == [True, False]
PYTHON
