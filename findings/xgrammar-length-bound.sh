#!/usr/bin/env bash
# A length bound on a JSON string forbids every character that needs an escape.
#
# Guess: maxLength limits how long a string is, not what is in it.
# Seen:  with maxLength: 40 the grammar cannot write a quotation mark, a backslash or a line break; without it, it can.
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



TEXTS = [r'"plain"', r'"a \"quoted\" word"', r'"line\nbreak"', r'"back\\slash"']
free = [accepts({"type": "string"}, text) for text in TEXTS]
bound = [accepts({"type": "string", "maxLength": 40}, text) for text in TEXTS]
print("without a bound", free, "with maxLength 40", bound)
assert free == [True, True, True, True] and bound == [True, False, False, False]
PYTHON
