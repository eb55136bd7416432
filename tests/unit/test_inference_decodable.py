"""What the decoder gets of a schema: it compiles, holds what the schema says but for what is named, and takes all that fits."""

import json

import pytest
import xgrammar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xgrammar.testing import _get_matcher_from_grammar

from engine.contract.answer_schema import schema_problems, validator
from engine.contract.models import FakeModel, VllmModel
from engine.contract.sections import read_include
from engine.inference.decodable import decodable, decoding_identity
from engine.tools import conversation
from jobs.contracts.order_mail import generate

CONTRACTS = generate.HERE.parent


def writes(schema, text):
    """Whether the decoder can write `text` under the schema that it gets, as vLLM compiles it here."""
    grammar = xgrammar.Grammar.from_json_schema(json.dumps(schema), any_whitespace=False, separators=(",", ":"))
    matcher = _get_matcher_from_grammar(grammar)
    return matcher.accept_string(text) and matcher.is_terminated()


def takes(schema, value):
    return writes(decodable(schema).schema, json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def left(schema):
    return [item.path for item in decodable(schema).left]


def holding(key, schema):
    return {"type": "object", "properties": {key: schema}, "required": [key], "additionalProperties": False}


@pytest.mark.parametrize("name", ["order_mail/order.json", "shop_desk/answer.json"])
def test_what_the_decoder_holds_is_decoded_as_it_is(name):
    schema = read_include(CONTRACTS / name)
    result = decodable(schema)
    assert json.dumps(result.schema) == json.dumps(schema)
    assert (result.left, result.was_refused) == ((), False)


TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "path", "fits"),
    [
        ({"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True}, "uniqueItems", ["a", "b"]),
        ({"type": "array", "items": TEXT, "contains": {"const": "x"}, "maxContains": 2}, "contains", ["x", "y"]),
        ({"type": "integer", "multipleOf": 5}, "multipleOf", 10),
        ({"type": ["number", "null"], "multipleOf": 0.5}, "multipleOf", 1.5),
        ({"type": "string", "maxLength": 30}, "maxLength", 'two\nlines, "quoted" \\'),
        ({"type": ["string", "null"], "minLength": 1}, "minLength", "\n"),
        ({"type": "string", "pattern": "^[a-z]+$", "maxLength": 5}, "maxLength", "abc"),
        ({"type": "string", "format": "date", "minLength": 10}, "minLength", "2026-01-31"),
        ({"type": "string", "format": "isbn"}, "format", "anything"),
        ({"type": "string", "pattern": '^say "[a-z]+"$'}, "pattern", 'say "hi"'),
        ({"type": "string", "pattern": r"^\w+\b$"}, "pattern", "word"),
        ({"type": "string", "pattern": r"^(a|b)\1$"}, "pattern", "aa"),
        ({"type": "string", "pattern": "^a{,3}$"}, "pattern", "aa"),
        ({"type": "string", "pattern": "^(?i:yes)$"}, "pattern", "YES"),
        ({"type": "string", "pattern": "^(?!no)[a-z]+$"}, "pattern", "yes"),
        ({"type": "string", "pattern": "^.{0,40}$"}, "pattern", '"'),
        ({"type": "number", "minimum": 0}, "minimum", 1e-7),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "maximum", 0.123456789),
        ({"type": "integer", "maximum": 1e300}, "maximum", 7),
        (
            {"type": "object", "patternProperties": {"^x-": TEXT}, "properties": {"a": TEXT}},
            "patternProperties",
            {"a": "", "x-b": ""},
        ),
        ({"type": "object", "propertyNames": {"maxLength": 3}}, "propertyNames", {"abc": 1}),
        ({"type": "string", "not": {"const": "a"}}, "not", "b"),
        (
            {"type": "object", "properties": {"a": TEXT, "b": TEXT}, "dependentRequired": {"a": ["b"]}},
            "dependentRequired",
            {"b": ""},
        ),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf", 1.5),
    ],
)
def test_what_the_decoder_does_not_hold_is_named_and_what_fits_can_be_written(schema, path, fits):
    whole = holding("k", schema)
    assert f".properties.k.{path}" in left(whole)
    assert schema_problems(whole) == [] and validator(whole).is_valid({"k": fits})
    assert takes(whole, {"k": fits})


@pytest.mark.parametrize(
    ("schema", "fits", "fails"),
    [
        ({"type": "integer", "minimum": 0.5}, 1, 0),
        ({"type": "integer", "exclusiveMaximum": 2.5, "minimum": -1.5}, 2, 3),
        ({"type": "integer", "minimum": 1.0, "maximum": 9}, 1, 0),
        ({"allOf": [{"type": "string"}, {"enum": ["a", "b", 1]}]}, "b", 1),
        ({"allOf": [{"type": "integer", "minimum": 3}, {"type": "number"}], "maximum": 5}, 4, 6),
        (
            {"type": "object", "properties": {"b": {}}, "allOf": [{"properties": {"a": {"type": "null"}}}]},
            {"b": 1, "a": None},
            {"a": 1},
        ),
        (
            {"type": "object", "properties": {"a": TEXT, "b": TEXT}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {"b": "x"},
            {},
        ),
        ({"$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n", "maximum": 3}, 3, 4),
        ({"type": "string", "enum": ["a", None]}, "a", None),
        ({"type": "array"}, [1, "a"], {}),
        ({"type": "array", "minItems": 1}, [1], []),
        ({"type": "array", "prefixItems": [TEXT, TEXT], "maxItems": 1}, ["a"], ["a", "b"]),
        ({"type": "object", "minProperties": 1}, {"a": 1}, {}),
        ({"type": "object", "required": ["a"]}, {"a": 1}, {}),
        ({"type": "object", "properties": {"a": False, "b": TEXT}}, {"b": ""}, {"a": 1}),
        ({"properties": {"p": {"$anchor": "x", "type": "integer"}, "q": {"$ref": "#x"}}}, {"q": 1}, {"q": "1"}),
        ({"properties": {"a/b": {"type": "integer"}, "c": {"$ref": "#/properties/a~1b"}}}, {"c": 1}, {"c": "1"}),
        ({"properties": {"c": {"$ref": "#/anyOf/0"}}, "anyOf": [{"type": "object"}]}, {"c": {}}, {"c": 1}),
        ({"type": "object", "properties": {"c": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}, {"c": {"c": None}}, {"c": 1}),
        ({"type": "array", "prefixItems": [True, False]}, ["a"], ["a", "b"]),
        (
            {"type": "object", "oneOf": [holding("kind", {"const": "a"}), holding("kind", {"const": "b"})]},
            {"kind": "b"},
            {"kind": "c"},
        ),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [TEXT], "additionalItems": False}, ["a"], [1]),
    ],
)
def test_what_can_be_rewritten_is_held_exactly(schema, fits, fails):
    assert schema_problems(schema) == [] and left(schema) == []
    check = validator(schema)
    assert check.is_valid(fits) and takes(schema, fits)
    assert not check.is_valid(fails) and not takes(schema, fails)


def test_a_reference_that_leads_back_is_replaced_once():
    inner = {"allOf": [{"$ref": "#/$defs/n"}, {"required": ["v"]}]}
    schema = {"$defs": {"n": {"type": "object", "properties": {"c": inner, "v": {"type": "integer"}}}}, "$ref": "#/$defs/n"}
    assert schema_problems(schema) == [] and takes(schema, {"c": {"c": {"v": 1}, "v": 2}})
    assert {item.reason for item in decodable(schema).left} == {"the decoder holds its $ref alone"}


def test_a_pattern_that_is_held_with_limits_says_so():
    schema = holding("k", {"type": "string", "pattern": "[A-Z].*"})
    assert decodable(schema).schema == schema
    [item] = decodable(schema).left
    assert item.path == ".properties.k.pattern" and "quotation mark" in item.reason and "^ and $" in item.reason


@pytest.mark.parametrize(
    ("schema", "refused"),
    [
        ({"type": "array", "uniqueItems": True}, True),
        ({"type": "array", "uniqueItems": False, "items": {}}, True),
        ({"type": "integer", "minimum": 0.5}, True),
        ({"type": "string", "maxLength": 5}, False),
        ({"type": "number", "minimum": 1}, False),
    ],
)
def test_it_is_known_which_schemas_vllm_refuses(schema, refused):
    assert decodable(schema).was_refused is refused


names = st.sampled_from(["a", "b", "type", "c d", 'q"'])
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=6)


@st.composite
def leaves(draw):
    """A schema without members, and a value that fits it."""
    kind = draw(st.sampled_from(["text", "integer", "number", "enum", "null", "boolean", "pattern", "any"]))
    if kind == "text":
        value = draw(texts)
        more = draw(
            st.sampled_from(
                [{}, {"maxLength": 6}, {"minLength": 0}, {"format": "uuid7"}, {"minLength": 0, "pattern": "^[^/]*|.*$"}]
            )
        )
        return {"type": draw(st.sampled_from(["string", ["string", "null"]])), **more}, value
    if kind == "integer":
        value = draw(st.integers(-1000, 1000))
        return {"type": "integer", "minimum": value - draw(st.sampled_from([0, 0.5, 7])), "maximum": value + 1.5}, value
    if kind == "number":
        value = draw(st.floats(allow_nan=False, allow_infinity=False))
        return {"type": ["number", "boolean"], "minimum": value, "multipleOf": abs(value) or 1}, value
    if kind == "enum":
        values = draw(st.lists(st.one_of(texts, st.integers(-(2**53), 2**53), st.none(), st.booleans()), min_size=1, max_size=3))
        return {"enum": values, **draw(st.sampled_from([{}, {"title": "t"}, {"not": False}]))}, values[0]
    if kind == "pattern":
        return {
            "type": "string",
            "pattern": draw(st.sampled_from(["^[a-z]{2,3}$", "ab", r"^\w+$", r"^ab\b", "^(a|ab)$", '^ab"?$'])),
            "maxLength": 9,
        }, "ab"
    value = {"null": None, "boolean": True, "any": [{"x": "y"}]}[kind]
    return ({} if kind == "any" else {"type": kind}), value


def lists(children):
    def build(pairs, fixed, more):
        schemas, values = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        if fixed:
            return {"type": "array", "prefixItems": schemas, **more}, values
        return {"type": "array", "items": schemas[0], "uniqueItems": True, **more}, values[:1]

    extra = st.sampled_from([{}, {"minItems": 1}, {"maxItems": 3}, {"contains": {}, "minContains": 1}])
    return st.builds(build, st.lists(children, min_size=1, max_size=3), st.booleans(), extra)


def objects(children):
    def build(pairs, required, closed, more):
        schemas = {name: pair[0] for name, pair in pairs.items()}
        needed = {"required": list(schemas)} if required else {}
        return {"type": "object", "properties": schemas, **needed, **closed, **more}, {
            name: pair[1] for name, pair in pairs.items()
        }

    closed = st.sampled_from(
        [{}, {"additionalProperties": False}, {"additionalProperties": True}, {"patternProperties": {"^z": {}}}]
    )
    more = st.sampled_from(
        [{}, {"minProperties": 1}, {"maxProperties": 3}, {"dependentRequired": {}}, {"propertyNames": {"maxLength": 9}}]
    )
    return st.builds(build, st.dictionaries(names, children, min_size=1, max_size=3), st.booleans(), closed, more)


def combined(children):
    def build(pair, other, how):
        schema, value = pair
        if how == "ref":
            return {"allOf": [schema, {"title": "t"}]}, value
        if how == "beside":
            return {**schema, "anyOf": [{}, other[0]]}, value
        return {how: [schema, other[0]] if how == "anyOf" else [schema]}, value

    return st.builds(build, children, children, st.sampled_from(["anyOf", "allOf", "oneOf", "ref", "beside"]))


schemas = st.recursive(leaves(), lambda children: st.one_of(lists(children), objects(children), combined(children)), max_leaves=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(schemas)
def test_whatever_fits_an_accepted_schema_can_be_written(pair):
    schema, value = pair
    if schema_problems(schema) == [] and validator(schema).is_valid(value):
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        result = decodable(schema)
        assert writes(result.schema, text), (result.schema, text)
        assert decodable(result.schema).was_refused is False


def test_answers_to_a_schema_that_was_refused_have_keys_of_their_own():
    vllm = VllmModel(type="vllm", path="m")
    refused, bent = holding("k", {"type": "array", "uniqueItems": True}), holding("k", {"type": "string", "maxLength": 5})
    assert decoding_identity(vllm, refused) == [json.dumps(decodable(refused).schema)]
    assert [decoding_identity(vllm, schema) for schema in (bent, None)] == [[], []]
    assert decoding_identity(FakeModel(type="fake"), refused) == []


@pytest.mark.parametrize("tools", [["calculator"], []])
def test_references_of_an_answer_lead_somewhere_in_a_turn_with_tools(tools):
    answer = {
        "$defs": {"n": {"type": "integer"}},
        "type": "object",
        "properties": {"k": {"$ref": "#/$defs/n"}, "next": {"$ref": "#"}},
    }
    turn = conversation.schema(tools, answer)
    assert schema_problems(turn) == []
    assert takes(turn, {"answer": {"k": 1, "next": {"k": 2}}}) and not takes(turn, {"answer": {"k": 1, "next": {"k": "2"}}})
    assert takes(turn, {"thought": "t", "call": {"tool": "calculator", "argument": "1"}}) is bool(tools)
