#!/usr/bin/env bash
# A constant number has one spelling, and a large one cannot be spelled as it was given.
#
# Guess: const: 1.0 and const: 1e20 can be written as 1.0 and 1e20: JSON numbers are equal by value.
# Seen:  the grammar of const 1.0 writes 1 and not 1.0; that of const 1e20 writes neither 1e20 nor 100000000000000000000.
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



one = [accepts({"const": 1.0}, text) for text in ("1", "1.0")]
large = [accepts({"const": 1e20}, text) for text in ("1e20", "100000000000000000000")]
print("1.0 as 1, 1.0:", one, "1e20 as 1e20, digits:", large)
assert one == [True, False] and large == [False, False]
PYTHON
