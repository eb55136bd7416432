#!/usr/bin/env bash
# A bound on the length of a list leaves only the empty list.
#
# Guess: a list without items holds anything, and maxItems: 3 only makes it shorter.
# Seen:  {"type": "array"} writes [1, 2]; with maxItems: 3 it writes [] and not even [1], with minItems: 1 it does not compile. An
#        object with maxProperties: 3 writes {} and not {"a": 1}. With items: {} the list is as guessed. (strict_mode, the default, leaves out what
#        the schema does not name, but only where it has such a keyword.)
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


free = accepts({"type": "array"}, "[]", "[1]", "[1, 2]")
most = accepts({"type": "array", "maxItems": 3}, "[]", "[1]", "[1, 2]")
items = accepts({"type": "array", "items": {}, "maxItems": 3}, "[]", "[1]", "[1, 2]")
objects = [accepts(schema, "{}", '{"a": 1}') for schema in ({"type": "object"}, {"type": "object", "maxProperties": 3})]
try:
    accepts({"type": "array", "minItems": 1}, "[1]")
    least = "compiles"
except RuntimeError as error:
    least = str(error).strip()
print("[], [1], [1, 2]: free", free, "maxItems", most, "maxItems and items", items, "minItems:", least)
print('{}, {"a": 1}: free', objects[0], "maxProperties", objects[1])
assert free == items == [True, True, True] and most == [True, False, False] and objects == [[True, True], [True, False]]
assert "additional items are not allowed: 1 > 0" in least
PYTHON
