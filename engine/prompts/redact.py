"""Personal data out of prompts, before anything else reads them.

The recognizers are those of presidio-analyzer that need no language model: patterns with checksums (Luhn for cards, ISO 7064 for
IBANs) and Google's phone number metadata. They are asked one by one, without presidio's engine, which would want a spaCy model.

What they miss: names, addresses, dates of birth; phone numbers written as one bare run of digits that does not begin with 0 or +
(an order number looks the same); phone numbers in words; cards with a wrong check digit. What they take too much: a run of more
than 320 characters without white space that has an @ in it goes as a whole.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import pyarrow as pa

from engine.contract.prompts import Entity
from engine.prompts.sources import WORK

LONGEST_EMAIL = 320  # RFC 3696, erratum 1690
SURE = 0.4  # presidio's score from which a match counts: below are shapes that anything fits, such as `::`

_TOKEN = re.compile(r"[^\s,;<>()\[\]{}\"]*@[^\s,;<>()\[\]{}\"]*")
_BARE = re.compile(r"[1-9]\d*")


class Span(NamedTuple):
    """A piece of text to be replaced."""

    start: int
    end: int
    kind: Entity


def redact(rows: pa.Table, kinds: Sequence[Entity]) -> pa.Table:
    """Return WORK with personal data of `kinds` replaced in messages, text, raw and a training prompt's reference.

    A reference of the holdout is left as it is: it says what is right, and nothing learns from it.
    """
    if not kinds or not rows.num_rows:
        return rows
    changed = []
    for row in rows.to_pylist():
        found: set[str] = set()
        turns = [{**turn, "content": clean(turn["content"], kinds, found)} for turn in row["messages"] or ()]
        changed.append(
            row
            | {
                "messages": turns if row["messages"] is not None else None,
                "text": "\n".join(turn["content"] for turn in turns if turn["role"] == "user") if row["messages"] else None,
                "reference": clean(row["reference"], kinds, found)
                if row["reference"] and row["side"] == "train"
                else row["reference"],
                "raw": clean(row["raw"], kinds, set()),
                "detail": clean(row["detail"], kinds, set()),
                "redacted": sorted(found),
            }
        )
    return pa.Table.from_pylist(changed, schema=WORK)


def clean(text: str, kinds: Sequence[Entity], found: set[str]) -> str:
    """Return `text` with <EMAIL>, <PHONE> ... in the place of personal data; the kinds met are added to `found`."""
    parts: list[str] = []
    end = 0
    for span in spans(text, kinds):
        found.add(span.kind)
        parts += [text[end : span.start], f"<{span.kind.upper()}>"]
        end = span.end
    return "".join(parts) + text[end:] if parts else text


def spans(text: str, kinds: Sequence[Entity]) -> list[Span]:
    """Return what must go, in order and without overlap: the longest of overlapping matches, then the kind named first."""
    met = [span for kind in kinds for span in FINDERS[kind](text)]
    met.sort(key=lambda span: (span.start - span.end, kinds.index(span.kind), span.start))
    chosen: list[Span] = []
    for span in met:
        if all(span.end <= other.start or other.end <= span.start for other in chosen):
            chosen.append(span)
    return sorted(chosen)


def _emails(text: str) -> Iterator[Span]:
    """Token by token: presidio's pattern takes a minute for 20,000 characters without white space."""
    for token in _TOKEN.finditer(text):
        if len(token[0]) > LONGEST_EMAIL:
            yield Span(*token.span(), "email")
        else:
            yield from (Span(token.start() + s, token.start() + e, "email") for s, e in _matches("email", token[0]))


def _phones(text: str) -> Iterator[Span]:
    """Without those that are part of a longer name (PO-16927, 1646-C) or one bare number (2079460958)."""
    for start, end in _matches("phone", text):
        before, after = text[max(start - 2, 0) : start], text[end : end + 2]
        is_glued = re.search(r"\w[-/_]?$", before) or re.match(r"[-/_]?\w", after)
        if not is_glued and not _BARE.fullmatch(text[start:end]):
            yield Span(start, end, "phone")


def _plain(kind: Entity) -> Callable[[str], Iterator[Span]]:
    return lambda text: (Span(start, end, kind) for start, end in _matches(kind, text))


FINDERS: dict[Entity, Callable[[str], Iterator[Span]]] = {
    "email": _emails,
    "phone": _phones,
    "card": _plain("card"),
    "iban": _plain("iban"),
    "ip": _plain("ip"),
}


def _matches(kind: Entity, text: str) -> list[tuple[int, int]]:
    if kind in ("phone", "card", "iban") and not any(character.isdigit() for character in text):
        return []
    recognizer = _recognizers()[kind]
    found = recognizer.analyze(text, recognizer.supported_entities, None) or []
    return [(match.start, match.end) for match in found if match.score >= SURE]


@cache
def _recognizers() -> dict[Entity, Any]:
    with _hidden("torch", "transformers"):
        from presidio_analyzer.predefined_recognizers import (
            CreditCardRecognizer,
            EmailRecognizer,
            IbanRecognizer,
            IpRecognizer,
            PhoneRecognizer,
        )

    class AnyEmail(EmailRecognizer):
        """Asks no list of public suffixes, which would be fetched from the network; `3@4.50` is a price."""

        def validate_result(self, pattern_text: str) -> bool:
            return not pattern_text.rpartition(".")[2].isdigit()

    return {
        "email": AnyEmail(),
        "phone": PhoneRecognizer(),
        "card": CreditCardRecognizer(),
        "iban": IbanRecognizer(),
        "ip": IpRecognizer(),
    }


@contextmanager
def _hidden(*modules: str) -> Iterator[None]:
    """Import presidio without the frameworks of engines that are not used: 3 s and 110 MB instead of 25 s and 1 GB a process."""
    absent = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None makes an import fail, as if not installed
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)
