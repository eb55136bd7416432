#!/usr/bin/env bash
# A schema of draft 2020-12 is compiled as one of draft 7.
#
# Guess: a validator that knows drafts 4, 6 and 7 refuses a $schema of a later one, or warns.
# Seen:  compile takes "$schema": ".../2020-12/schema" without a word, and leaves prefixItems, dependentRequired, minContains,
#        unevaluatedProperties and a keyword beside $ref unchecked: what jsonschema refuses is valid.
# With:  fastjsonschema 2.22.3, jsonschema 4.26.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fastjsonschema==2.22.3 jsonschema==4.26.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import fastjsonschema
from jsonschema import Draft202012Validator

warnings.simplefilter("error")
cases = {
    "prefixItems": ({"prefixItems": [{"type": "integer"}]}, ["text"]),
    "dependentRequired": ({"dependentRequired": {"a": ["b"]}}, {"a": 1}),
    "minContains": ({"contains": {"const": 1}, "minContains": 2}, [1]),
    "unevaluatedProperties": ({"properties": {"a": {}}, "unevaluatedProperties": False}, {"b": 1}),
    "beside $ref": ({"$ref": "#/$defs/count", "maximum": 5, "$defs": {"count": {"type": "integer"}}}, 7),
}


def is_valid(schema, value):
    """Whether the compiled schema takes the value."""
    try:
        fastjsonschema.compile(schema)(value)
    except fastjsonschema.JsonSchemaValueException:
        return False
    return True


seen = {}
for name, (keywords, value) in cases.items():
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **keywords}
    seen[name] = (is_valid(schema, value), Draft202012Validator(schema).is_valid(value))
print("fastjsonschema", version("fastjsonschema"), "valid by it, and by jsonschema:", seen)
assert set(seen.values()) == {(True, False)}
assert not is_valid({"type": "integer"}, "text")
PYTHON
