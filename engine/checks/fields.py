"""Checks of one value: a choice, a pattern, a length. A null field passes: whether it may be null is the schema's word."""

import re
from collections.abc import Callable
from typing import Any, Protocol

import regex

from engine.checks.outcome import Outcome, Seen, outcome, pick
from engine.checks.reference import SECONDS
from engine.contract.checks import Choice, Length, Regex

TOKEN = re.compile(r"\w+|[^\w\s]")
COUNTS: dict[str, Callable[[str], int]] = {
    "characters": len,
    "words": lambda text: len(text.split()),
    "tokens": lambda text: len(TOKEN.findall(text)),
}


class OfField(Protocol):
    """A check of the answer or of a field of it."""

    @property
    def type(self) -> str: ...
    @property
    def field(self) -> str | None: ...


def check_choice(seen: Seen, check: Choice) -> Outcome:
    """Pass if the value is one of `check.of`."""
    return judge_field(seen, check, lambda value: ("" if str(value) in check.of else "off_choice", f"{value!r:.80}"))


def check_regex(seen: Seen, check: Regex) -> Outcome:
    """Pass if the whole value matches `check.pattern`, which is given a second to find out."""

    def tag(value: Any) -> tuple[str, str]:
        try:
            return "" if regex.fullmatch(check.pattern, str(value), timeout=SECONDS) else "off_pattern", f"{value!r:.80}"
        except TimeoutError:
            return "timed_out", f"{check.pattern} took more than {SECONDS:g} s over {value!r:.80}"

    return judge_field(seen, check, tag)


def check_length(seen: Seen, check: Length) -> Outcome:
    """Pass if the value is neither too short nor too long."""

    def tag(value: Any) -> tuple[str, str]:
        count = COUNTS[check.unit](str(value))
        tag = "too_short" if count < check.low else "too_long" if check.high is not None and count > check.high else ""
        return tag, f"{count} {check.unit}"

    return judge_field(seen, check, tag)


def judge_field(seen: Seen, check: OfField, tag_of: Callable[[Any], tuple[str, str]]) -> Outcome:
    """Return the tag and detail that `tag_of` says of the value that `check` is about."""
    found, value = pick(seen.answer, check.field)
    if not found:
        return outcome(check.type, "no_field", f"no field {check.field!r}")
    return outcome(check.type, "") if value is None else outcome(check.type, *tag_of(value))
