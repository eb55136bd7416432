"""Answer schemas that are none, that lead nowhere or that nothing fits are refused with the contract, and the place is named."""

from datetime import date

import pytest

from engine.contract.answer_schema import schema_problems
from engine.contract.sections import parse
from engine.contract.specialist import Output
from engine.errors import ContractError

TEXT = {"type": "string"}
DRAFT7 = "http://json-schema.org/draft-07/schema#"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "objekt"}, '.type: found "objekt", expected one of array, boolean, .*; perhaps object'),
        ({"properties": {"a": {"type": "strng"}}}, r"\.properties\.a\.type: found .strng"),
        ({"properties": {"a": {"anyOf": [TEXT, {"type": "nul"}]}}}, r"\.properties\.a\.anyOf\.1\.type: found"),
        ({"properties": ["a"]}, r"\.properties: found \[.a.\], expected object"),
        ({"type": "string", "maxLength": "5"}, r"\.maxLength: found .5., expected integer"),
        ({"items": [TEXT]}, r"\.items: found"),
        ({"anyOf": []}, r"\.anyOf: .* this is no JSON Schema"),
        ({"const": date(2026, 1, 31)}, r"\.const: found the date 2026-01-31, expected text; quote it"),
        ({"minimum": float("nan")}, r"\.minimum: found nan"),
        ({"properties": {True: TEXT}}, r"\.properties: found the key True, which YAML reads as bool; quote it"),
        (
            {"properties": {"a": {"$ref": "https://example.com/a.json"}}},
            r"\.properties\.a\.\$ref: found nothing at 'https://example",
        ),
        ({"$ref": "#/$defs/a"}, r"\.\$ref: found nothing"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "leads back to itself"),
        ({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}, "leads back to itself"),
        ({"type": "string", "pattern": "["}, r"\.pattern: '\[' is no regular expression"),
        ({"type": "object", "patternProperties": {"(": {}}}, r"\.patternProperties\.\(: "),
        ({"type": "object", "properties": {"a": TEXT}, "required": ["a", "note"]}, r"\.required: found \['note'\], .*\(a\)"),
        ({"type": "object", "properties": {}, "additionalProperties": False, "required": ["a"]}, r"\.required: found \['a'\]"),
        (
            {"type": "object", "properties": {"a": False}, "required": ["a"]},
            r"\.required: \['a'\] is required, and its schema is false",
        ),
        ({"enum": []}, r"\.enum: nothing of \[\]"),
        ({"type": "string", "enum": [True, False]}, r"\.enum: nothing of .* \(type string\).*yes and no are text"),
        ({"type": "integer", "const": "1"}, r"\.const: nothing of"),
        ({"enum": ["a"], "pattern": "^b$"}, r"\.enum: nothing of"),
        ({"type": "integer", "minimum": 1.2, "maximum": 1.8}, "no integer lies within its bounds, from 2 up to 1"),
        ({"type": "number", "exclusiveMinimum": 3, "maximum": 3}, "no number lies within its bounds, 3 and 3"),
        ({"type": "string", "minLength": 4, "maxLength": 2}, "minLength 4 is above maxLength 2"),
        ({"type": "array", "minItems": 2, "maxItems": 1}, "minItems 2 is above maxItems 1"),
        ({"type": "array", "prefixItems": [TEXT], "items": False, "minItems": 2}, r"\.minItems: 2 is above its 1 prefixItems"),
        ({"properties": {"a": TEXT, "b": TEXT}, "required": ["a", "b"], "maxProperties": 1}, r"\.maxProperties: 1 is below the 2"),
        ({"properties": {"a": TEXT}, "additionalProperties": False, "minProperties": 2}, r"\.minProperties: 2 is above its 1"),
        ({"not": {}}, r"\.not: nothing fits it"),
    ],
)
def test_a_schema_that_cannot_be_held_is_refused_with_its_place(tmp_path, schema, words):
    with pytest.raises(ContractError, match=rf"json_schema{words}" if words[:2] in (r"\.", ".t") else words):
        parse(Output, {"json_schema": schema}, where=tmp_path)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {"required": TEXT, "type": TEXT, "not": {}}, "required": ["type"]},
        {"type": "object", "properties": {"a": TEXT}, "required": ["b"], "additionalProperties": True},
        {"type": "object", "properties": {"a": TEXT}, "required": ["ab"], "patternProperties": {"^a": TEXT}},
        {"type": "object", "properties": {"a": TEXT}, "allOf": [{"properties": {"b": TEXT}}], "required": ["b"]},
        {"properties": {"a": TEXT}, "anyOf": [{"properties": {"k": TEXT}, "required": ["k", "a"]}]},
        {"properties": {"a": TEXT}, "if": {"required": ["b"]}, "then": {"required": ["a"]}},
        {"type": "object", "properties": {"p": {"$anchor": "x", "type": "integer"}, "q": {"$ref": "#x"}}},
        {"$id": "https://example.com/s", "$defs": {"a": {"$id": "a", "type": "null"}}, "$ref": "a"},
        {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
        {"type": ["string", "null"], "enum": ["a", None]},
        {"not": {"type": "integer", "minimum": 3, "maximum": 1}},
        {"$schema": DRAFT7, "type": "array", "items": [TEXT]},
        {"$schema": "http://json-schema.org/draft-04/schema#", "type": "number", "minimum": 0, "exclusiveMinimum": True},
    ],
)
def test_what_an_answer_can_fit_is_accepted(schema):
    assert schema_problems(schema) == []


def test_several_problems_are_all_named(tmp_path):
    with pytest.raises(ContractError) as error:
        parse(Output, {"json_schema": {"properties": {"a": {"type": "x"}, "b": {"type": "y"}}}}, where=tmp_path)
    assert "properties.a.type" in str(error.value) and "properties.b.type" in str(error.value)
