"""The quick look at an answer's schema says yes only where jsonschema does; all other answers are left to jsonschema."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.checks import CheckInput, run_checks
from engine.checks.fits import fits
from engine.contract.answer_schema import validator
from engine.contract.checks import JsonSchema

ORDER = json.loads((Path(__file__).parents[2] / "jobs/contracts/order_mail/order.json").read_text())
TEXTS = st.sampled_from(["", "a", "ab", "7", "12345", "12345\n", "b\n"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-2, 3), st.sampled_from([0.5, 1.0, 2.0, 1e30]), TEXTS)
NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6)
KINDS = st.sampled_from(["array", "boolean", "integer", "null", "number", "object", "string"])
SIZES = st.integers(0, 2)
BOUNDS = st.sampled_from([-1, 0, 1, 1.5])
LEAVES = st.fixed_dictionaries(
    {},
    optional={
        "type": KINDS | st.lists(KINDS, min_size=1, max_size=2, unique=True),
        "enum": st.lists(SCALARS, min_size=1, max_size=3),
        "const": SCALARS,
        "pattern": st.sampled_from(["^[0-9]{5}$", "^a", "b$", ""]),
        "required": st.lists(NAMES, max_size=2, unique=True),
        **dict.fromkeys(["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"], SIZES),
        **dict.fromkeys(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"], BOUNDS),
        "uniqueItems": st.booleans(),
        "format": st.sampled_from(["date", "email"]),
        "title": st.just("t"),
    },
)


def nested(inner):
    schema = inner | st.booleans()
    parts = {
        "properties": st.dictionaries(NAMES, schema, max_size=2),
        "additionalProperties": schema,
        "items": schema,
        "anyOf": st.lists(schema, min_size=1, max_size=2),
        "allOf": st.lists(schema, min_size=1, max_size=2),
        "oneOf": st.lists(schema, min_size=1, max_size=2),
        "not": schema,
        "contains": schema,
        "prefixItems": st.lists(schema, min_size=1, max_size=2),
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$", "."]), schema, max_size=1),
        "propertyNames": schema,
        "if": schema,
        "then": schema,
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=1),
        "dependentSchemas": st.dictionaries(NAMES, schema, max_size=1),
        "unevaluatedProperties": schema,
    }
    return st.builds(lambda leaf, more: leaf | more, LEAVES, st.fixed_dictionaries({}, optional=parts))


SCHEMAS = st.recursive(LEAVES, nested, max_leaves=4)


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, VALUES)
def test_what_surely_fits_is_valid(schema, value):
    test = fits(schema)
    assert test is None or not test(value) or validator(schema).is_valid(value)


@given(SCHEMAS, st.sampled_from(["\ud800", 10**400, {"a": "\udfff"}]))
def test_values_that_rust_does_not_read_are_left_to_jsonschema(schema, value):
    test = fits(schema)
    assert test is None or not test(value) or validator(schema).is_valid(value)


@settings(max_examples=100, deadline=None)
@given(LEAVES, VALUES)
def test_a_check_says_what_jsonschema_says(schema, value):
    if not schema:
        return
    [found] = run_checks([JsonSchema(type="json_schema")], CheckInput(json.dumps(value), schema=schema))
    problem = next(validator(schema).iter_errors(value), None)
    assert (found.tag, found.detail) == (("off_schema", problem.message[:200]) if problem else ("", ""))


def test_answers_to_the_default_order_are_seen_at_once():
    test = fits(ORDER)
    assert test and test({"order_number": None, "product": "blue kites", "quantity": "3"})
    assert not test({"order_number": "7", "product": "blue kites", "quantity": "3"})
    assert not test({"product": "blue kites", "quantity": "3"})
    assert not test({"order_number": None, "product": "blue kites", "quantity": "3", "more": 1})


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "^\\d$"},
        {"properties": {"a": {"pattern": "(?i)a"}}},
        {"pattern": "a{,2}"},
        {"pattern": "a{1, 2}"},
        {"pattern": "a++a"},
        {"pattern": "[a-z--c]"},
        {"pattern": "[]-b]"},
        {"not": {"pattern": "b$"}},
        {"patternProperties": {"b$": False}},
        {"items": {"multipleOf": 0.1}},
        {"oneOf": [{"contentMediaType": "application/json"}, {"type": "string"}]},
        {"oneOf": [{"dependencies": {"a": ["b"]}}, {"type": "object"}]},
        {"$schema": "https://json-schema.org/draft-07/schema#", "type": "null"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "type": "null"},
        {"$defs": {"a": {"$schema": "http://json-schema.org/draft-07/schema#"}}},
        {"type": "anything"},
        {"$ref": "https://example.org/other.json"},
    ],
)
def test_schemas_of_which_both_libraries_may_differ_are_left_to_jsonschema(schema):
    assert fits(schema) is None
