"""What redaction finds and leaves alone: precision and recall on a made-up corpus, and single lines."""

import pytest
from redaction_corpus import KINDS, corpus, ours, score

from engine.prompts.recognizers import is_card, is_iban
from engine.prompts.redact import redact_text


def redacted(text: str) -> str:
    return redact_text(text, KINDS, set())


@pytest.fixture(scope="module")
def scores():
    return score(corpus(400, seed=1), ours)


@pytest.mark.parametrize("kind", KINDS)
def test_most_of_the_corpus_is_found_and_little_else(scores, kind):
    result = scores[kind]
    assert result.there > 30
    assert result.precision >= 0.97 and result.recall >= (0.93 if kind == "phone" else 0.98), result


def test_corpus_is_the_same_for_the_same_seed():
    assert corpus(50) == corpus(50) != corpus(50, seed=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pay with 2223 0031 2200 3222 today", "pay with <CARD> today"),
        ("6205500000000000004", "<CARD>"),
        ("4111 1111 1111 1111 123", "<CARD> 123"),  # the code on the back is no part of it
        ("1,4111111111111111,12/27", "1,<CARD>,12/27"),
        ("card-4111-1111-1111-1111", "card-<CARD>"),
        ("de89 3704 0044 0532 0130 00 is mine", "<IBAN> is mine"),
        ("GB82 WEST 123456 98765432", "<IBAN>"),
        ("pt50-0002-0123-1234-5678-9015-4", "<IBAN>"),
        ("IBAN:DE89370400440532013000 2 days ago", "IBAN:<IBAN> 2 days ago"),
        ("call 2079460958 or 5551234567", "call <PHONE> or <PHONE>"),
        ("Handynummer 0171 3920012", "Handynummer <PHONE>"),
        ("my number is 415-555-0171", "my number is <PHONE>"),
        ("my order is late, call 415-555-0171", "my order is late, call <PHONE>"),
        ("Order 10233, 0161 496 0665", "Order 10233, <PHONE>"),
        ("2024-01-15 0161 496 0665", "2024-01-15 <PHONE>"),
        ("011 44 20 7946 0958, 0049 30 23125001", "<PHONE>, <PHONE>"),
        ("[2001:db8::1]:443 and ::ffff:192.0.2.128", "[<IP>]:443 and <IP>"),
        ("200,192.0.2.7,GET", "200,<IP>,GET"),
        ("http://192.0.2.7/x", "http://<IP>/x"),
    ],
)
def test_personal_data_is_replaced(text, expected):
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "IMEI 490154203237518", "490154203237518 is on the box", "ICCID 8944500102198304826", "order 4111 1111 1111 1111",
        "PO-4111111111111111", "0.4111111111111111", "1234 5678 9012 3456", "xxxx-xxxx-xxxx-1234", "EAN 4006381333931",
        "DE12 3456 7890", "DE00370400440532013000", "no 12 3456 78901 23",
        "Order 2024-11-0345", "Ticket 415-555-2671", "tickets 415-555-2671 and 415-555-2672", "order number is 415-555-0171",
        "Rechnungsnummer 0171 3920012", "paid on 03.04.2025", "call on 2024-01-15", "01/02/03", "ISBN 0-306-40615-2",
        "S/N 0312-9362-7062", "tracking 1Z 999 AA1 01 2345 6784", "1 234 567,89", "52.520008, 13.404954", "profit +12 500 000",
        "12-34-56 12345678",
        "version 1.2.3.4", "versions 1.2.3.4, 1.2.3.5 and 1.2.3.6", "lib-1.2.3.4.tar.gz", "numpy==1.2.3.4", "OID 1.3.6.1.4.1",
        "255.255.255.0", "0.0.0.255", "Chrome/119.0.0.0", "abc::def", "dead::beef", "a::b", "10:20:30:40:50:60:70:80",
        "logo@2x.png", "react@18.2.0",
    ],
)  # fmt: skip
def test_what_looks_like_personal_data_stays(text):
    assert redacted(text) == text


def test_words_on_another_line_say_nothing_about_a_number():
    assert redacted("version\n192.0.2.7") == "version\n<IP>"


@pytest.mark.parametrize("text", ["1 " * 2_000, "1.1." * 1_000, "1-" * 2_000, "de12" * 1_000, "4111 " * 800, "(0)" * 1_000])
@pytest.mark.timeout(20)
def test_long_text_of_digits_takes_no_more_than_seconds(text):
    assert isinstance(redacted(text), str)


@pytest.mark.parametrize(
    ("digits", "right"), [("2221000000000009", True), ("2220000000000000", False), ("4111111111111112", False)]
)
def test_card_has_an_issuer_and_a_check_digit(digits, right):
    assert is_card(digits) is right


def test_each_single_wrong_digit_of_an_iban_is_noticed():
    number = "DE89370400440532013000"
    assert is_iban(number)
    wrong = [number[:at] + str((int(number[at]) + 1) % 10) + number[at + 1 :] for at in range(2, len(number))]
    assert not any(map(is_iban, wrong))
