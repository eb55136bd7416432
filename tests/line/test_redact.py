"""Personal data is replaced, order numbers are not. Without Ray, but the recognizers take seconds to load."""

import subprocess
import sys

import pyarrow as pa
import pytest

from engine.prompts.redact import redact, redact_text
from engine.prompts.sources import INGESTED

ALL = ("email", "phone", "card", "iban", "ip")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to jane.o'neil+x@shop.example.co.uk today", "Write to <EMAIL> today"),
        ("<bob@corp.local>, or eve@x.org;mallory@y.org", "<<EMAIL>>, or <EMAIL>;<EMAIL>"),
        ("Call +44 20 7946 0958 or (212) 555-0123.", "Call <PHONE> or <PHONE>."),
        ("tel.0161 496 0665", "tel.<PHONE>"),
        ("card 4111 1111 1111 1111, thanks", "card <CARD>, thanks"),
        ("IBAN DE89370400440532013000", "IBAN <IBAN>"),
        ("from 192.168.0.17 and 2001:db8::1", "from <IP> and <IP>"),
        ("3 mugs @ 4.50, or 3@4.50 each", "3 mugs @ 4.50, or 3@4.50 each"),
        ("nothing here :: at all", "nothing here :: at all"),
        ("", ""),
    ],
)
def test_redact_text_replaces_each_kind(text, expected):
    assert redact_text(text, ALL, set()) == expected


@pytest.mark.parametrize(
    "text",
    ["order A-10233", "PO-16927, PO4633", "number 1646-C", "order 75616, 250 units", "order 2079460958", "KX-52231/7", "NL-39689"],
)
def test_order_numbers_are_no_phone_numbers(text):
    assert redact_text(text, ("phone",), set()) == text


def test_only_the_requested_kinds_are_replaced():
    replaced: set[str] = set()
    assert redact_text("a@b.org, +44 20 7946 0958", ("phone",), replaced) == "a@b.org, <PHONE>"
    assert replaced == {"phone"}


def test_of_overlapping_matches_the_longest_is_replaced():
    assert redact_text("4111 1111 1111 1111", ALL, set()) == "<CARD>"
    assert redact_text("mail 192.168.0.1@example.org now", ALL, set()) == "mail <EMAIL> now"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", ["a." * 10_000 + "@", "a@" * 10_000, "1 " * 10_000, "1.1." * 5_000])
def test_hostile_text_of_full_length_does_not_stall(text):
    assert isinstance(redact_text(text, ALL, set()), str)


def test_redact_changes_messages_text_and_raw_and_leaves_the_reference():
    import pyarrow as pa

    row = {
        "messages": [{"role": "system", "content": "for c@d.org"}, {"role": "user", "content": "I am a@b.org"}],
        "text": "I am a@b.org",
        "reference": '{"mail":"a@b.org"}',
        "raw": '{"input": "I am a@b.org"}',
        "reason": "",
        "detail": "",
    }
    reject = {"messages": None, "text": None, "raw": "broken a@b.org", "reason": "unreadable", "detail": "bad"}
    good, bad = redact(pa.Table.from_pylist([row, reject], schema=INGESTED), ("email",)).to_pylist()
    assert [turn["content"] for turn in good["messages"]] == ["for <EMAIL>", "I am <EMAIL>"]
    assert (good["text"], good["raw"], good["redacted"]) == ("I am <EMAIL>", '{"input": "I am <EMAIL>"}', ["email"])
    assert good["reference"] == row["reference"]
    assert (bad["raw"], bad["messages"], bad["redacted"]) == ("broken <EMAIL>", None, [])


def test_recognizers_load_no_deep_learning_framework_and_leave_its_import_possible():
    code = (
        "import sys; from engine.prompts.redact import redact_text; "
        "assert redact_text('a@b.org', ('email',), set()) == '<EMAIL>'; "
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_reference_of_a_training_prompt_is_redacted_and_that_of_the_holdout_is_not():
    row = dict.fromkeys(INGESTED.names) | {"reference": "write to ann@example.org", "raw": "", "detail": ""}
    rows = pa.Table.from_pylist([row | {"split": side} for side in ("train", "holdout")], schema=INGESTED)
    rows = redact(rows, ["email"]).to_pylist()
    assert [row["reference"] for row in rows] == ["write to <EMAIL>", "write to ann@example.org"]
    assert [row["redacted"] for row in rows] == [["email"], []]
