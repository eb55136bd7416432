"""Reasons of answers that were not accepted: equal causes are one reason, with its count and one example."""

import pyarrow as pa
import pytest

from engine.grading.failures import COLUMNS, KEPT, as_lines, counted, failure_reasons, merged, normal_form
from engine.rows import CANDIDATE, Row


def candidates(*rows: Row) -> pa.Table:
    full = [
        {"prompt_id": "p", "answer_id": f"{index:04x}", "text": f"prompt {index}", "error": ""} | row
        for index, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(full, schema=pa.schema([CANDIDATE.field(name) for name in COLUMNS]))


def error(words: str) -> Row:
    return {"pool": "failure", "reasons": ["finish_reason_error"], "error": words}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("4096 tokens in the prompt, the model reads 2048", "5 tokens in the prompt, the model reads 2048"),
        ("request 3f2a9c1e-77aa failed", "request 0b1c2d3e-4411 failed"),
        ("no such tool 'find'", "no such tool 'search it'"),
        ("http://10.0.0.1:80/v1/x is away", "https://b.example/v1 is away"),
        ("a\n  b", "a b"),
    ],
)
def test_equal_causes_have_equal_words(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other)


def test_other_causes_keep_other_words() -> None:
    assert normal_form("the chat template refuses the chat") != normal_form("the grammar refuses the schema")


def test_reasons_are_counted_over_all_pieces_with_the_first_example() -> None:
    check = {"check": "length", "passed": False, "tag": "too_short", "detail": "2 characters"}
    passed = {"check": "json", "passed": True, "tag": "", "detail": ""}
    pieces = [
        candidates({"pool": "train", "reasons": ["accepted"]}, error("no room for 7 tokens"), error("no room for 8 tokens")),
        candidates(error("no room for 9 tokens"), {"pool": "contrast", "reasons": ["too_short"], "checks": [passed, check]}),
    ]
    first, second = merged([*failure_reasons(pieces[:1]), *failure_reasons(pieces[1:])])
    assert (first.pool, first.reason, first.answers) == ("failure", "finish_reason_error: no room for N tokens", 3)
    assert (first.answer_id, first.text, first.words) == ("0000", "prompt 0", "no room for 9 tokens")
    assert (second.reason, second.answers, second.words) == ("too_short", 1, "length: 2 characters")
    lines = as_lines([first, second], 5)
    assert lines[0] == "3 of 5 (60 %) failure: finish_reason_error: no room for N tokens"
    assert "'prompt 0': no room for 9 tokens" in lines[1] and len(lines) == 4


def test_any_number_of_reasons_is_bounded() -> None:
    words = [f"cause {chr(97 + index % 26) * (1 + index // 26)}" for index in range(200)]
    reasons = failure_reasons([candidates(*map(error, words))])
    assert len(reasons) == KEPT and len(as_lines(reasons, 200)) == 11


def test_answers_that_were_all_accepted_have_no_reasons() -> None:
    assert failure_reasons([candidates({"pool": "train", "reasons": ["accepted"]}), candidates()]) == []


def test_failures_of_models_are_counted_by_model() -> None:
    failed = [("small: too_long", "9 tokens in the prompt", "prompt 1"), ("small: too_long", "7 tokens in the prompt", "prompt 2")]
    lines = counted([*failed, ("t: length", "", "prompt 3")], 8)
    assert lines[:2] == ["2 of 8 (25 %) small: too_long: N tokens in the prompt", "    for example prompt 1"]
