#!/usr/bin/env bash
# A required key without a schema of its own makes a grammar of what the schema refuses.
#
# Guess: {"type": "object", "required": ["a"]} is an object with the key a and any value.
# Seen:  its grammar writes {}, which does not fit the schema, and neither {"a": 1} nor {"b": 1}; beside properties that name only
#        b it writes {"b": 1} and not {"a": 1}. With strict_mode=False it writes all three.
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

SCHEMA = {"type": "object", "required": ["a"]}
TEXTS = ["{}", '{"a": 1}', '{"b": 1}']
fits = [jsonschema.Draft202012Validator(SCHEMA).is_valid(json.loads(text)) for text in TEXTS]
alone = accepts(SCHEMA, *TEXTS)
beside = accepts({**SCHEMA, "properties": {"b": {"type": "integer"}}}, *TEXTS)
loose = xgrammar.Grammar.from_json_schema(json.dumps(SCHEMA), strict_mode=False)
loose = [_is_grammar_accept_string(loose, text) for text in TEXTS]
print(TEXTS, "fit", fits, "written", alone, "beside properties", beside, "not strict", loose)
assert fits == [False, True, False] and alone == [True, False, False]
assert beside == [False, False, True] and loose == [True, True, True]
PYTHON
