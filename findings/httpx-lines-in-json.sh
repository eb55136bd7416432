#!/usr/bin/env bash
# A line of streamed JSON is cut in two.
#
# Guess: iter_lines() gives the lines of JSON lines, as servers of models stream them: JSON writes a line break as \n, so that a line
#        is a value.
# Seen:  it cuts where str.splitlines does, at U+2028 and U+0085 too, which JSON may hold as they are, and which are in texts that
#        models have read: json.loads raises for both halves. Cut at "\n" alone, the same stream is whole.
# With:  httpx 0.28.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet httpx==0.28.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
from importlib.metadata import version

from httpx import Client, MockTransport, Response

values = [{"response": "one\u2028two"}, {"response": "three\x85four"}]
body = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode()
transport = MockTransport(lambda request: Response(200, content=body))


def parsed(line):
    """The value, or the name of the error."""
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return type(error).__name__


with Client(transport=transport) as client:
    response = client.get("http://localhost/api/generate")
    seen = [parsed(line) for line in response.iter_lines()]
print("httpx", version("httpx"), "of", len(values), "values:", seen)
assert seen == ["JSONDecodeError"] * 4
assert [parsed(line) for line in body.decode().split("\n")[:-1]] == values
PYTHON
