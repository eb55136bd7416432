"""What is sent to vLLM of an answer schema, vLLM takes: its own list of keywords that it refuses is asked."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.v1.structured_output.backend_xgrammar import has_xgrammar_unsupported_json_features

from engine.contract.answer_schema import schema_problems
from engine.inference.decodable import decodable

KEYWORDS = {
    "array": [{"items": {"type": "string"}}, {"uniqueItems": True}, {"contains": {}}, {"minContains": 0}, {"maxItems": 3}],
    "integer": [{"minimum": 0.5}, {"multipleOf": 3}, {"maximum": 1e30}],
    "number": [{"multipleOf": 0.5}, {"minimum": 0}],
    "object": [
        {"properties": {"a": {"type": "null"}}}, {"patternProperties": {"^x": {}, "^y": {}}}, {"patternProperties": {"^z$": {}}},
        {"propertyNames": {"maxLength": 3, "pattern": "^a"}}, {"unevaluatedProperties": False}, {"minProperties": 1},
    ],
    "string": [{"maxLength": 9}, {"pattern": "^[a-z]+$"}, {"format": "date"}, {"format": "x"}, {"pattern": "\\ba"}],
}  # fmt: skip
HOLDERS = [
    lambda schema: schema,
    lambda schema: {"type": "object", "properties": {"k": schema}, "required": ["k"]},
    lambda schema: {"type": "array", "items": schema},
    lambda schema: {"allOf": [schema, {"title": "t"}]},
    lambda schema: {"anyOf": [schema, {"type": "null"}], "description": "d"},
    lambda schema: {"not": schema},
    lambda schema: {"$defs": {"s": schema}, "type": "object", "properties": {"k": {"$ref": "#/$defs/s"}}},
]


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, object]:
    kind = draw(st.sampled_from(sorted(KEYWORDS)))
    schema: dict[str, object] = {"type": draw(st.sampled_from([kind, [kind, "null"]]))}
    for keywords in draw(st.lists(st.sampled_from(KEYWORDS[kind]), max_size=4)):
        schema |= keywords
    for holder in draw(st.lists(st.sampled_from(HOLDERS), max_size=2)):
        schema = holder(schema)
    return schema


@settings(max_examples=300, deadline=None)
@given(schemas())
def test_vllm_refuses_nothing_of_what_is_sent(schema: dict[str, object]) -> None:
    if schema_problems(schema) == []:
        result = decodable(schema)
        assert not has_xgrammar_unsupported_json_features(result.schema), result.schema
        if has_xgrammar_unsupported_json_features(schema):
            assert result.was_refused, json.dumps(schema)
