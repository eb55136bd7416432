import json

import pytest
from jsonschema import Draft202012Validator

from engine.contract.sections import parse
from engine.contract.specialist import Output
from engine.errors import ContractError
from engine.inference.structured import candidate_spans, decoding_schema

FORM = {
    "type": "object",
    "properties": {
        "number": {"anyOf": [{"type": "string", "pattern": "^[0-9]{5}$"}, {"type": "null"}]},
        "product": {"type": "string", "pattern": "^[a-z -]+$"},
        "note": {"type": "string"},
    },
}


def allowed(text, **words):
    schema = decoding_schema(Output(json_schema=FORM, spans=words), text)
    assert schema is not None
    return schema["properties"]


def test_spans_stay_within_a_line_and_between_commas():
    assert candidate_spans("two red cups, please\nBye", 2) == ["two", "two red", "red", "red cups", "cups", "please", "Bye"]


def test_spans_may_hold_one_joining_sign_but_are_also_cut_at_it():
    assert candidate_spans("a 12-pack", 2) == ["a", "a 12", "12", "12-pack", "pack"]


def test_spans_are_each_offered_once():
    assert candidate_spans("no no no", 2) == ["no", "no no"]


def test_a_field_is_decoded_as_a_span_that_its_schema_accepts():
    fields = allowed("Order 12345: green tea, phone 0161 496", number=1, product=2)
    assert fields["number"] == {"enum": ["12345", None]}
    assert fields["product"] == {"enum": ["green", "green tea", "tea", "phone"]}
    assert fields["note"] == FORM["properties"]["note"]


def test_a_field_that_no_span_fits_keeps_its_schema():
    assert allowed("123 456", product=2)["product"] == FORM["properties"]["product"]


def test_whatever_is_allowed_fits_the_schema_of_the_task():
    fields = allowed('Say "hi", order 99999 of blue cups', number=1, product=3)
    for name in ("number", "product"):
        assert all(Draft202012Validator(FORM["properties"][name]).is_valid(value) for value in fields[name]["enum"])


def test_free_text_and_no_spans_are_left_as_they_are():
    assert decoding_schema(Output(), "x") is None
    assert decoding_schema(Output(json_schema=FORM), "x") == FORM


def test_spans_of_an_unknown_field_are_refused(tmp_path):
    with pytest.raises(ContractError, match=r"spans: found \['nunber'\], expected properties of json_schema: \['note', 'number'"):
        parse(Output, {"json_schema": FORM, "spans": {"nunber": 1}}, where=tmp_path)


def test_spans_of_a_number_are_refused(tmp_path):
    form = {"properties": {"n": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}}
    with pytest.raises(ContractError, match=r"spans: \['n'\] are not declared as string"):
        parse(Output, {"json_schema": form, "spans": {"n": 1}}, where=tmp_path)


def test_the_truth_of_every_order_mail_is_among_its_spans():
    from engine.contract.load import load_contract
    from jobs.contracts.order_mail import generate

    output = load_contract(generate.HERE.parent / "smoke.yaml").contract.specialist.task_units[0].output
    lost = []
    for mail in [*generate.train(), *generate.shots()]:
        schema = decoding_schema(output, mail.text)
        assert schema is not None
        if not Draft202012Validator(schema).is_valid(json.loads(generate.compact(mail.form))):
            lost.append((mail.text, mail.form))
    assert not lost
