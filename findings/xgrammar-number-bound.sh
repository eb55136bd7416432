#!/usr/bin/env bash
# A bound on a JSON number forbids exponents.
#
# Guess: minimum and maximum limit the value of a number, however it is written.
# Seen:  with a minimum and a maximum the grammar cannot write 1e6 or 2.5e-3, which lie within; without them, it can.
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



TEXTS = ["1.5", "1e6", "2.5e-3"]
free = [accepts({"type": "number"}, text) for text in TEXTS]
bound = [accepts({"type": "number", "minimum": 0, "maximum": 1e9}, text) for text in TEXTS]
print("without bounds", free, "with bounds", bound)
assert free == [True, True, True] and bound == [True, False, False]
PYTHON
