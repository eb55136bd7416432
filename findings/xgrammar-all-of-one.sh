#!/usr/bin/env bash
# An allOf of one schema replaces the schema it stands in.
#
# Guess: allOf adds to the keywords beside it, as the JSON Schema specification and the package jsonschema have it.
# Seen:  beside allOf: [one schema], properties and required are dropped without a word: an object with the required key b cannot
#        be written, one without it can.
# With:  xgrammar 0.2.8, jsonschema 4.26.0 (without torch and transformers, which compiling and matching do not need)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet apache-tvm-ffi==0.1.15.post2 numpy==2.3.5 pydantic==2.14.3 jsonschema==4.26.0
"$folder/venv/bin/pip" install --quiet --no-deps xgrammar==0.2.8
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from unittest import mock

sys.modules["torch"] = None  # an optional import of tvm_ffi
import tvm_ffi  # noqa: F401

sys.modules.update(torch=mock.MagicMock(), transformers=mock.MagicMock())  # xgrammar imports both, for what is not used here
import xgrammar
from xgrammar.testing import _is_grammar_accept_string


def accepts(schema, *texts):
    """Whether the grammar of `schema` can write all of each text."""
    grammar = xgrammar.Grammar.from_json_schema(json.dumps(schema))
    return [_is_grammar_accept_string(grammar, text) for text in texts]


import jsonschema

PART = {"type": "object", "properties": {"a": {"type": "integer"}}}
SCHEMA = {"type": "object", "allOf": [PART], "properties": {"b": {"type": "integer"}}, "required": ["b"]}
TEXTS = ['{"a": 1}', '{"b": 1}', '{"a": 1, "b": 1}']
fits = [jsonschema.Draft202012Validator(SCHEMA).is_valid(json.loads(text)) for text in TEXTS]
written = accepts(SCHEMA, *TEXTS)
print(TEXTS, "fit", fits, "written", written)
assert fits == [False, True, True] and written == [True, False, False]
PYTHON
