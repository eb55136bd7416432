#!/usr/bin/env bash
# A number that was cut is another number, and is kept.
#
# Guess: from_json(allow_partial=True) leaves out the value at which the text ends, as it does with a string: of an answer that
#        was cut by a token limit, or is still streamed, what is returned are the values that are complete.
# Seen:  a number at the end is returned as it stands: {"amount": 1200} cut after two digits is {"amount": 12}, a valid amount. A
#        string is left out, unless trailing-strings is asked for, and so are a cut true and 12 followed by a point.
# With:  pydantic 2.14.4, pydantic_core 2.50.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydantic==2.14.4 pydantic_core==2.50.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from pydantic_core import from_json

cut = {text: from_json(text, allow_partial=True) for text in ('{"amount": 12', '{"amount": "12', '{"amount": 12.', '{"paid": tr')}
print("pydantic_core", version("pydantic_core"), cut)
assert from_json('{"amount": 1200}', allow_partial=True) == {"amount": 1200}
assert list(cut.values()) == [{"amount": 12}, {}, {}, {}]
assert from_json('{"amount": "12', allow_partial="trailing-strings") == {"amount": "12"}
PYTHON
