#!/usr/bin/env bash
# A field's description vanishes when it equals the docstring of its type.
#
# Guess: the JSON schema has the description of each field.
# Seen:  the field `first: Part`, whose description equals the docstring of the class Part, has none; an optional field with the
#        same description has it.
# With:  pydantic 2.14.3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydantic==2.14.3
"$folder/venv/bin/python" - <<'PYTHON'
import pydantic


class Part(pydantic.BaseModel):
    """A part."""


class Whole(pydantic.BaseModel):
    first: Part = pydantic.Field(description="A part.")
    second: Part | None = pydantic.Field(description="A part.")
    third: Part = pydantic.Field(description="The last part.")


described = {name: field.get("description") for name, field in Whole.model_json_schema()["properties"].items()}
print(described)
assert described == {"first": None, "second": "A part.", "third": "The last part."}
assert Whole.model_fields["first"].description == "A part."
PYTHON
