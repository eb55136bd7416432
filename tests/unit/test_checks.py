import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checks import CHECKS, TAGS, CheckInput, canonical, is_abstention, run_checks
from engine.checks.grounded import occurs
from engine.contract.checks import Choice, Grounded, JsonSchema, Numeric, Regex

SCHEMA = {
    "type": "object",
    "properties": {"number": {"type": ["string", "null"]}, "item": {"type": ["string", "null"]}},
    "required": ["number", "item"],
    "additionalProperties": False,
}
MAIL = "Please send 30 Red  Mugs.\nOrder KX-9608, 300 spoons."


def only(check, answer, text=MAIL, **inputs):
    return run_checks([check], CheckInput(answer, text, **{"schema": SCHEMA, **inputs}))[0]


@pytest.mark.parametrize(
    ("answer", "tag"),
    [
        ('{"number": "KX-9608", "item": null}', ""),
        ('{"number": "KX-9608"}', "off_schema"),
        ('{"number": 7, "item": null}', "off_schema"),
        ('{"number": "KX', "not_json"),
        ("", "not_json"),
        ("null", "off_schema"),
    ],
)
def test_json_schema_distinguishes_broken_json_from_a_wrong_form(answer, tag):
    result = only(JsonSchema(type="json_schema"), answer)
    assert (result.passed, result.tag) == (tag == "", tag)


@pytest.mark.parametrize(
    ("answer", "tag"),
    [
        ('{"number": "kx-9608", "item": "red mugs"}', ""),  # case and white space do not matter
        ('{"number": null, "item": null}', ""),
        ('{"number": "KX-960", "item": null}', "ungrounded"),  # a part of a word is not the word
        ('{"number": "KX-9608", "item": "blue mugs"}', "ungrounded"),
        ('{"number": ["KX-9608", "KX-1"], "item": null}', "ungrounded"),
        ("not json", "not_json"),
    ],
)
def test_grounded_finds_values_that_do_not_occur_in_the_prompt(answer, tag):
    assert only(Grounded(type="grounded"), answer).tag == tag


@pytest.mark.parametrize(
    ("answer", "text", "passed"),
    [
        ('{"price": 12.50}', "Please pay 12.50 EUR.", True),
        ('{"count": 1234}', "We have 1,234 boxes, $5 each", True),
        ('{"count": [1234.0, 5.0]}', "We have 1,234 boxes, $5 each", True),
        ('{"rate": 12, "share": 0.12}', "a rate of 12%", True),
        ('{"urgent": true, "paid": false}', "nothing of it", True),
        ('{"price": 12.5}', "Please pay 125 EUR", False),
        ('{"price": -12.5}', "Please pay 12.50 EUR", False),
        ('{"number": "0012"}', "number 12", False),  # a text is no number
        ('{"urgent": true, "count": 7}', "6 boxes", False),
    ],
)
def test_grounded_knows_a_number_by_its_value_and_looks_for_no_boolean(answer, text, passed):
    [found] = run_checks([Grounded(type="grounded")], CheckInput(answer, text))
    assert found.passed == passed


@given(st.text("a b_1.", max_size=3), st.text("a b_1.", max_size=8))
def test_a_value_occurs_as_a_regular_expression_finds_it(value, text):
    pattern = rf"(?<!\w){re.escape(' '.join(value.split()))}(?!\w)"
    assert occurs(value, text) == bool(re.search(pattern, " ".join(text.split())))


def test_grounded_looks_only_at_the_named_fields():
    check = Grounded(type="grounded", fields=("number",))
    assert only(check, '{"number": "KX-9608", "item": "invented"}').passed


@pytest.mark.parametrize(
    ("check", "answer", "tag"),
    [
        (Choice(type="choice", allowed=("yes", "no")), "yes", ""),
        (Choice(type="choice", allowed=("yes", "no")), "maybe", "off_choice"),
        (Choice(type="choice", allowed=("a",), field="item"), '{"item": "a"}', ""),
        (Choice(type="choice", allowed=("a",), field="item"), '{"other": "a"}', "no_field"),
        (Regex(type="regex", pattern="[A-Z]{2}-\\d+", field="number"), '{"number": "KX-9608"}', ""),
        (Regex(type="regex", pattern="[A-Z]{2}-\\d+", field="number"), '{"number": "KX-9608 "}', "off_pattern"),
        (Regex(type="regex", pattern="x", field="number"), '{"number": null}', ""),
        (Numeric(type="numeric", min=1, max=10), "7", ""),
        (Numeric(type="numeric", min=1, max=10), "1,000", "out_of_range"),
        (Numeric(type="numeric"), "seven", "not_a_number"),
        (Numeric(type="numeric", min=1, field="item"), '{"item": 0}', "out_of_range"),
    ],
)
def test_field_checks_say_what_is_wrong(check, answer, tag):
    result = only(check, answer)
    assert (result.passed, result.tag) == (tag == "", tag)
    assert result.tag in TAGS


def test_canonical_ignores_formatting_but_not_content():
    assert canonical('{"b": 1,\n "a": null}') == canonical('{"a":null,"b":1}')
    assert canonical('{"a": "1"}') != canonical('{"a": 1}')
    assert canonical(" free text ") == "free text"


def test_abstention_is_a_form_of_nulls_only():
    assert is_abstention('{"a": null, "b": null}')
    assert not is_abstention('{"a": null, "b": ""}')
    assert not is_abstention("{}")
    assert not is_abstention("null")


def test_every_check_of_the_contract_has_a_function():
    from typing import get_args

    from engine.contract.checks import Check

    kinds = {kind.model_fields["type"].annotation.__args__[0] for kind in get_args(get_args(Check)[0])}
    assert kinds == set(CHECKS)
