"""Replace personal data in prompts, before any other step reads them.

The recognizers are those of presidio-analyzer that need no language model: patterns with checksums (Luhn for cards, ISO 7064 for
IBANs) and the metadata of libphonenumber. They are called one by one, because presidio's engine requires a spaCy model.

Not found: names, addresses, dates of birth; phone numbers in words, or as one run of digits that does not begin with 0 or + (order
numbers look the same); cards with a wrong check digit. Found wrongly: a token of more than 320 characters that contains an @ is
replaced as a whole.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import pyarrow as pa

from engine.contract.prompts import Entity
from engine.prompts.sources import INGESTED
from engine.rows import Row

MAX_EMAIL_CHARS = 320  # RFC 3696, erratum 1690
MIN_SCORE = 0.4  # of presidio; matches below are patterns that fit almost anything, such as `::`

_TOKEN = re.compile(r"[^\s,;<>()\[\]{}\"]*@[^\s,;<>()\[\]{}\"]*")
_BARE = re.compile(r"[1-9]\d*")


class Span(NamedTuple):
    """Characters of a text that are replaced."""

    start: int
    end: int
    kind: Entity


def redact(rows: pa.Table, kinds: Sequence[Entity]) -> pa.Table:
    """Return INGESTED with personal data of `kinds` replaced in messages, text, raw and the references of training prompts.

    References of the holdout are not changed: nothing is trained on them.
    """
    if not kinds or not rows.num_rows:
        return rows
    changed = []
    for row in rows.to_pylist():
        replaced: set[str] = set()
        turns = [{**turn, "content": redact_text(turn["content"], kinds, replaced)} for turn in row["messages"] or ()]
        texts: Row = {name: redact_text(row[name], kinds, set()) for name in ("raw", "detail")}
        texts["text"] = "\n".join(turn["content"] for turn in turns if turn["role"] == "user") if row["messages"] else None
        if row["reference"] and row["split"] == "train":
            texts["reference"] = redact_text(row["reference"], kinds, replaced)
        messages = turns if row["messages"] is not None else None
        changed.append({**row, **texts, "messages": messages, "redacted": sorted(replaced)})
    return pa.Table.from_pylist(changed, schema=INGESTED)


def redact_text(text: str, kinds: Sequence[Entity], replaced: set[str]) -> str:
    """Return `text` with <EMAIL>, <PHONE> ... in place of personal data; the kinds that occur are added to `replaced`."""
    parts: list[str] = []
    end = 0
    for span in spans(text, kinds):
        replaced.add(span.kind)
        parts += [text[end : span.start], f"<{span.kind.upper()}>"]
        end = span.end
    return "".join(parts) + text[end:] if parts else text


def spans(text: str, kinds: Sequence[Entity]) -> list[Span]:
    """Return the spans to replace, in order and without overlap: of overlapping matches the longest, then the first kind."""
    matches = [span for kind in kinds for span in FINDERS[kind](text)]
    matches.sort(key=lambda span: (span.start - span.end, kinds.index(span.kind), span.start))
    chosen: list[Span] = []
    for span in matches:
        if all(span.end <= other.start or other.end <= span.start for other in chosen):
            chosen.append(span)
    return sorted(chosen)


def _emails(text: str) -> Iterator[Span]:
    """Search token by token: presidio's pattern takes a minute for 20,000 characters without white space."""
    for token in _TOKEN.finditer(text):
        if len(token[0]) > MAX_EMAIL_CHARS:
            yield Span(*token.span(), "email")
        else:
            yield from (Span(token.start() + s, token.start() + e, "email") for s, e in _matches("email", token[0]))


def _phones(text: str) -> Iterator[Span]:
    """Skip numbers that are part of a longer name (PO-16927, 1646-C), or one run of digits (2079460958)."""
    for start, end in _matches("phone", text):
        before, after = text[max(start - 2, 0) : start], text[end : end + 2]
        is_glued = re.search(r"\w[-/_]?$", before) or re.match(r"[-/_]?\w", after)
        if not is_glued and not _BARE.fullmatch(text[start:end]):
            yield Span(start, end, "phone")


def _plain(kind: Entity) -> Callable[[str], Iterator[Span]]:
    return lambda text: (Span(start, end, kind) for start, end in _matches(kind, text))


FINDERS: dict[Entity, Callable[[str], Iterator[Span]]] = {
    "email": _emails, "phone": _phones, "card": _plain("card"), "iban": _plain("iban"), "ip": _plain("ip"),
}  # fmt: skip


def _matches(kind: Entity, text: str) -> list[tuple[int, int]]:
    if kind in ("phone", "card", "iban") and not any(character.isdigit() for character in text):
        return []
    recognizer = _recognizers()[kind]
    matches = recognizer.analyze(text, recognizer.supported_entities, None) or []
    return [(match.start, match.end) for match in matches if match.score >= MIN_SCORE]


@cache
def _recognizers() -> dict[Entity, Any]:
    with _without_modules("torch", "transformers"):
        from presidio_analyzer import predefined_recognizers as presidio

    class AnyEmail(presidio.EmailRecognizer):
        """Does not use the list of public suffixes, which would be downloaded. `3@4.50` is a price."""

        def validate_result(self, pattern_text: str) -> bool:
            return not pattern_text.rpartition(".")[2].isdigit()

    phone, card, iban = presidio.PhoneRecognizer(), presidio.CreditCardRecognizer(), presidio.IbanRecognizer()
    return {"email": AnyEmail(), "phone": phone, "card": card, "iban": iban, "ip": presidio.IpRecognizer()}


@contextmanager
def _without_modules(*modules: str) -> Iterator[None]:
    """Make imports of `modules` fail. Presidio then takes 3 s and 110 MB a process instead of 25 s and 1 GB."""
    absent = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None makes an import fail, as if not installed
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)
