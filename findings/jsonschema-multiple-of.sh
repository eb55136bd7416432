#!/usr/bin/env bash
# 19.99 is no multiple of 0.01.
#
# Guess: multipleOf: 0.01 holds for amounts of money with two decimals, since JSON numbers are decimal.
# Seen:  the check divides floats: 19.99, 4.35 and 0.07 are invalid, 1.1 is valid. Parsed as Decimal, with the schema as well,
#        all are valid.
# With:  jsonschema 4.26.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jsonschema==4.26.0
"$folder/venv/bin/python" - <<'PYTHON'
import json
from decimal import Decimal

import jsonschema

NUMBERS = ["19.99", "4.35", "0.07", "1.1"]


def valid(parse_float):
    """Which of NUMBERS are valid, if the JSON of number and schema is read with `parse_float`."""
    schema = json.loads('{"multipleOf": 0.01}', parse_float=parse_float)
    validator = jsonschema.Draft202012Validator(schema)
    return [validator.is_valid(json.loads(number, parse_float=parse_float)) for number in NUMBERS]


print(NUMBERS, "float", valid(float), "Decimal", valid(Decimal))
assert valid(float) == [False, False, False, True] and all(valid(Decimal))
PYTHON
