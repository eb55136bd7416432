#!/usr/bin/env bash
# NaN lies within every minimum and maximum.
#
# Guess: a number with minimum 0 and maximum 1 lies between 0 and 1 once the schema has accepted it, and NaN is no JSON anyway.
# Seen:  json.loads reads NaN, and the validator accepts it: a value is refused if value < minimum, which is false for NaN.
# With:  jsonschema 4.26.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jsonschema==4.26.0
"$folder/venv/bin/python" - <<'PYTHON'
import json

import jsonschema

schema = {"type": "object", "properties": {"score": {"type": "number", "minimum": 0, "maximum": 1}}}
validator = jsonschema.Draft202012Validator(schema)
accepted = {text: validator.is_valid(json.loads(f'{{"score": {text}}}')) for text in ("0.5", "2", "NaN")}
print(accepted)
assert accepted == {"0.5": True, "2": False, "NaN": True}
PYTHON
