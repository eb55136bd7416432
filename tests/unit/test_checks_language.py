"""The check `language` over short prompts of 12 languages, of which a detector hears anything."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.checks import CheckInput, run_checks
from engine.contract.checks import Language

TEXTS = json.loads((Path(__file__).parent / "data" / "short_prompts.json").read_text(encoding="utf-8"))
CHECK = Language(type="language")
LANGUAGES = st.sampled_from(sorted(TEXTS))


def only(answer, text="", *, check=CHECK, **inputs):
    [result] = run_checks([check], CheckInput(answer, text, **inputs))
    return result


@settings(deadline=None, max_examples=60)
@given(LANGUAGES, st.data())
def test_right_answer_to_a_short_prompt_is_never_dropped(language, data):
    prompt = data.draw(st.sampled_from(TEXTS[language]["prompts"]))
    answers = data.draw(st.lists(st.sampled_from(TEXTS[language]["answers"]), min_size=1, max_size=3, unique=True))
    assert only(" ".join(answers), prompt).passed
    assert only(" ".join(answers), prompt, language=language).passed


@settings(deadline=None, max_examples=60)
@given(LANGUAGES, LANGUAGES, st.data())
def test_answer_in_another_language_than_a_long_prompt_is_off_language(asked, answered, data):
    prompt, answer = (data.draw(st.sampled_from(TEXTS[language]["answers"])) for language in (asked, answered))
    assert only(answer, prompt).passed == (asked == answered)
    assert only(answer, language=asked).tag == ("" if asked == answered else "off_language")


def test_short_prompt_passes_and_the_result_says_that_it_was_not_heard():
    result = only(TEXTS["en"]["answers"][0], TEXTS["en"]["prompts"][0])
    assert result == ("language", True, "", "language_unsure: of the prompt 'Write a haiku'")


@pytest.mark.parametrize("language", ["en-US", "EN", "en_GB"])
def test_stated_language_may_have_a_region(language):
    assert only(TEXTS["en"]["answers"][1], language=language) == ("language", True, "", "")
    assert only(TEXTS["de"]["answers"][1], language=language).tag == "off_language"


def test_stated_language_that_is_no_code_is_not_compared():
    assert only(TEXTS["de"]["answers"][1], language="English").detail == "language_unsure: of the prompt 'English'"


def test_code_of_an_answer_has_no_language():
    code = "```python\nfor line in open(path):\n    print(line.strip())  # the lines without white space around them\n```"
    assert only(f"So geht es:\n{code}", TEXTS["de"]["answers"][1]).passed
    assert only(f"{TEXTS['fr']['answers'][1]}\n{code}", TEXTS["de"]["answers"][1]).tag == "off_language"
