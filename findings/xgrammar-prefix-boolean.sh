#!/usr/bin/env bash
# prefixItems may not hold true, says a message that says that it may.
#
# Guess: true is the schema of anything, in prefixItems as in properties and in items, where xgrammar takes it.
# Seen:  prefixItems: [true] raises "prefixItems must be an array of objects or booleans"; with [{}] it compiles and writes [1].
# With:  xgrammar 0.2.8 (without torch and transformers, which compiling and matching do not need)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet apache-tvm-ffi==0.1.15.post2 numpy==2.3.5 pydantic==2.14.3
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


taken = [accepts({"type": "array", "items": True}, "[1]"), accepts({"type": "object", "properties": {"a": True}}, '{"a": 1}')]
empty = accepts({"type": "array", "prefixItems": [{}]}, "[1]")
try:
    accepts({"type": "array", "prefixItems": [True]}, "[1]")
    message = "compiles"
except RuntimeError as error:
    message = str(error).strip()
print("items and properties true", taken, "prefixItems [{}]", empty, "[true]:", message)
assert taken == [[True], [True]] and empty == [True] and message.endswith("prefixItems must be an array of objects or booleans")
PYTHON
