#!/usr/bin/env bash
# A bound on a number limits its decimals to six.
#
# Guess: minimum and maximum limit the value of a number, not how exactly it is written.
# Seen:  with a minimum of 0 the grammar writes 0.123456, and neither 0.1234567 nor 0.0000001; without it, it writes all of them.
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


TEXTS = ["0.5", "0.123456", "0.1234567", "0.0000001"]
free = accepts({"type": "number"}, *TEXTS)
half = accepts({"type": "number", "minimum": 0}, *TEXTS)
both = accepts({"type": "number", "minimum": 0, "maximum": 1}, *TEXTS)
print(TEXTS, "free", free, "minimum 0", half, "0 to 1", both)
assert free == [True, True, True, True] and half == both == [True, True, False, False]
PYTHON
