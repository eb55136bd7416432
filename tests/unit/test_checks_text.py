"""Checks of the text of an answer, and properties that hold for all checks and all answers."""

import json

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.checks import TAGS, CheckInput, canonical, is_abstention, parse, run_checks
from engine.checks.json_answer import MAX_DEPTH
from engine.contract.checks import (
    Choice,
    Citations,
    Grounded,
    JsonSchema,
    Language,
    LeakedPrompt,
    Length,
    Numeric,
    Policy,
    Reference,
    Refusal,
    Regex,
    Repetition,
    Tools,
)  # fmt: skip
from engine.contract.specialist import Output, TaskUnit
from engine.rows import CHECKS

PASSAGES = "Which cup is the cheapest?\n[1] The red cup costs four euros.\n[note-2] The blue  Cup is sold out, says the shop."
GERMAN, ENGLISH = "Bitte senden Sie mir drei rote Becher und eine Kanne.", "Please send me three red mugs and one teapot by Friday."
INSTRUCTION = "You fill in the order form. Write null where the mail does not say. Never invent an order number."


def only(check, answer, text="", **inputs):
    [result] = run_checks([check], CheckInput(answer, text, **inputs))
    assert result.tag in TAGS and result.passed == (result.tag == "")
    return result


@pytest.mark.parametrize(
    ("answer", "tag"),
    [
        ("The red cup costs four euros [1].", ""),
        ('It says "The red cup costs four euros" [1].', ""),
        ('It says "the BLUE cup is sold out" [note-2] and [1].', ""),
        ("It says \u201cthe blue cup is sold out,\u201d [note-2].", ""),
        ('It says "the blue cup is sold out" [1].', "misquoted"),  # it does, but elsewhere
        ('It says "the red cup costs five euros" [1].', "misquoted"),
        ('The "red cup" is cheap [1].', ""),  # two words are a name, not a quotation
        ("The green cup is cheap [3].", "unknown_citation"),
        ("The red cup is cheap.", "no_citation"),
    ],
)
def test_citations_occur_in_the_prompt(answer, tag):
    assert only(Citations(type="citations"), answer, PASSAGES).tag == tag


def test_without_citations_a_quotation_may_occur_anywhere_in_the_prompt():
    check = Citations(type="citations", min_citations=0)
    assert only(check, 'It says "costs four euros".', PASSAGES).passed
    assert only(check, 'It says "costs nine euros".', PASSAGES).tag == "misquoted"


@pytest.mark.parametrize(
    ("given", "answer", "inputs", "tag"),
    [
        ({"allowed": ["en"]}, ENGLISH, {}, ""),
        ({"allowed": ["en"]}, GERMAN, {}, "off_language"),
        ({"allowed": ["en", "de"]}, GERMAN, {}, ""),
        ({}, GERMAN, {"language": "de"}, ""),
        ({}, GERMAN, {"language": "en"}, "off_language"),
        ({}, GERMAN, {"text": GERMAN}, ""),
        ({}, ENGLISH, {"text": GERMAN}, "off_language"),
        ({"allowed": ["en"]}, "Drei Becher", {}, ""),  # too short to tell
        ({"allowed": ["en"]}, "1234567890 1234567890 1234567890", {}, ""),
        ({"allowed": ["en"]}, '{"said": "' + GERMAN + '"}', {}, "off_language"),
    ],
)
def test_language_is_that_of_the_contract_or_of_the_prompt(given, answer, inputs, tag):
    assert only(Language(type="language", **given), answer, **inputs).tag == tag


@pytest.mark.parametrize(
    ("given", "answer", "tag"),
    [
        ({"min": 2}, "two words", ""), ({"min": 3}, "two words", "too_short"), ({"max": 1}, "two words", "too_long"),
        ({"max": 9, "unit": "characters"}, "two words", ""), ({"max": 8, "unit": "characters"}, "two words", "too_long"),
        ({"max": 3, "unit": "tokens"}, "two words!", ""), ({"max": 2, "unit": "tokens"}, "two words!", "too_long"),
        ({"max": 1, "field": "a"}, '{"a": "one", "b": "two words"}', ""), ({"max": 1, "field": "c"}, '{"a": "one"}', "no_field"),
    ],
)  # fmt: skip
def test_length_counts_in_its_unit(given, answer, tag):
    assert only(Length(type="length", **given), answer).tag == tag


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 4), st.floats(0, 1))
def test_repetition_is_the_share_of_runs_that_occurred_before(words, size, share):
    runs = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    again = sum(run in runs[:place] for place, run in enumerate(runs))
    result = only(Repetition(type="repetition", ngram=size, max_share=share), " ".join(words))
    assert result.passed == (not runs or again / len(runs) <= share)


def test_repetition_of_a_script_without_spaces_goes_by_characters():
    check = Repetition(type="repetition", unit="character")
    assert only(check, "\u8bf7\u7ed9\u6211" * 20).tag == "repetitive"
    assert only(check, "\u8bf7\u7ed9\u6211\u4e09\u4e2a\u7ea2\u8272\u7684\u676f\u5b50").passed


@pytest.mark.parametrize(
    ("answer", "inputs", "tag"),
    [
        ("Three mugs.", {}, ""),
        (f"I was told: {INSTRUCTION}", {}, "leaked_prompt"),
        ("write NULL where the mail, does not say!", {}, "leaked_prompt"),
        ("Write null where the mail says nothing.", {}, ""),
        ("Write null where the mail does not say", {"text": "What is: write null where the mail does not say"}, ""),
        ("secret plan", {"instructions": ["secret plan"]}, "leaked_prompt"),
        ('{"item": "write null where the mail does not say"}', {}, "leaked_prompt"),
        ("a long text that only the teacher was told", {}, "leaked_prompt"),
    ],
)
def test_leaked_prompt_is_a_run_of_words_that_only_the_model_was_told(answer, inputs, tag):
    check = LeakedPrompt(type="leaked_prompt", texts=("Hear: a long text that only the teacher was told.",))
    assert only(check, answer, **{"instructions": ["", INSTRUCTION], **inputs}).tag == tag


@pytest.mark.parametrize(
    ("given", "answer", "inputs", "tag"),
    [
        ({}, "Three mugs.", {}, ""),
        ({}, "I\u2019m sorry, but I cannot do that.", {}, "refused"),
        ({}, "I cannotate texts.", {}, ""),
        ({}, "Three mugs. " * 20 + "I cannot say more.", {}, ""),
        ({}, '{"item": null}', {}, "refused"),
        ({"scenarios": ["spam"]}, '{"item": null}', {"scenario": "spam"}, ""),
        ({"scenarios": ["spam"]}, '{"item": "mug"}', {"scenario": "spam"}, "not_refused"),
        ({"scenarios": ["spam"]}, '{"item": null}', {"scenario": "order"}, "refused"),
        ({"reference": {}}, '{"item": null}', {"reference": '{"item": null}'}, ""),
        ({"reference": {}}, '{"item": "mug"}', {"reference": '{"item": null}'}, "not_refused"),
        ({"reference": {}}, "I must decline.", {"reference": "Three."}, "refused"),
        ({"reference": {}}, "Three.", {}, "no_reference"),
    ],
)
def test_refusal_is_where_it_must_be_and_only_there(given, answer, inputs, tag):
    assert only(Refusal(type="refusal", **given), answer, **inputs).tag == tag


def test_policy_bars_whole_words_and_phrases():
    check = Policy(type="policy", banned=("damn", "free of charge"))
    assert [only(check, text).tag for text in ("Damn!", "a free  of\ncharge mug", "damnation", '{"a": "DAMN"}')] == [
        "barred_word", "barred_word", "", "barred_word"
    ]  # fmt: skip


def test_check_applies_only_to_its_task_units_and_has_its_name():
    checks = [Policy(type="policy", name="polite", banned=("damn",), task_units=("a",)), Length(type="length", max=1)]
    assert [one.check for one in run_checks(checks, CheckInput("damn", task_unit="a"))] == ["polite", "length"]
    assert [one.check for one in run_checks(checks, CheckInput("damn", task_unit="b"))] == ["length"]


def test_answer_with_another_finish_reason_than_stop_fails_every_check():
    results = run_checks([Length(type="length", max=9)], CheckInput("cut"), finish_reason="length")
    assert [(one.check, one.passed, one.tag) for one in results] == [("length", False, "no_answer")]


def test_input_of_a_row_has_the_instructions_but_not_the_users_turns():
    unit = TaskUnit(name="form", kind="extraction", instruction=INSTRUCTION, output=Output(json_schema={"type": "object"}))
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Three mugs"}]
    row = {"answer": "{}", "text": "Three mugs", "messages": turns, "reference": "r", "scenario": "s", "language": "en"}
    inputs = CheckInput.of(row, unit)
    assert (inputs.instructions, inputs.schema, inputs.task_unit) == ([INSTRUCTION, "Be brief."], {"type": "object"}, "form")
    assert (inputs.reference, inputs.scenario, inputs.language, inputs.trajectory) == ("r", "s", "en", ())


PURE = (
    JsonSchema(type="json_schema"), Grounded(type="grounded"), Choice(type="choice", allowed=("a",)),
    Regex(type="regex", pattern=".*x"),
    Numeric(type="numeric", unit="m", reference=Reference(value="1")), Numeric(type="numeric", field="a", min=1),
    Citations(type="citations"), Citations(type="citations", field="a", min_citations=0), Length(type="length", max=3),
    Tools(type="tools"),
    Repetition(type="repetition"), LeakedPrompt(type="leaked_prompt", texts=("a b",)),
    Refusal(type="refusal", reference=Reference()),
    Policy(type="policy", banned=("a",)), Length(type="length", field="a", min=1), Regex(type="regex", field="a", pattern="x"),
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.just("a") | st.text(), inner),
).map(lambda value: json.dumps(value))


@settings(deadline=None, max_examples=50)
@given(answer=st.text(st.characters(codec="utf-8")) | JSON, text=st.text(st.characters(codec="utf-8")), reference=st.none() | JSON)
@example(answer='{"a": "\\ud800"}', text="", reference=None)  # half a character
@example(answer="[" * 100_000, text="", reference=None)
@example(answer='{"a":' * 900 + "1" + "}" * 900, text="", reference=None)
@example(answer="9" * 5000, text="", reference="9" * 5000)
@example(answer='{"a": NaN}', text="", reference="NaN")
@example(answer="1e999 m", text="", reference="1e999")
def test_no_answer_breaks_a_check_and_every_result_has_a_tag_of_the_closed_set_and_can_be_stored(answer, text, reference):
    results = run_checks(PURE, CheckInput(answer, text, {"type": "object"}, reference=reference))
    assert len(results) == len(PURE) and all(one.tag in TAGS and one.passed == (one.tag == "") for one in results)
    assert pa.array([[one._asdict() for one in results]], CHECKS).to_pylist()
    assert isinstance(canonical(answer), str) and is_abstention(answer) in (True, False)


def test_json_deeper_than_the_limit_is_none():
    deep = MAX_DEPTH - 1
    assert parse("[" * deep + "]" * deep) is not None
    assert parse("[" * (deep + 2) + "]" * (deep + 2)) is None


def test_regex_that_takes_for_ever_is_ended():
    check = Regex(type="regex", pattern="(?:a+)+(?:a+)+(?:a+)+x")
    assert only(check, "a" * 60 + "y").tag in ("timed_out", "off_pattern")
