"""Checks of one value: choice, pattern, length. A null value passes: whether null is allowed is for the JSON schema to say."""

import re
from collections.abc import Callable
from typing import Any, Protocol

import regex

from engine.checks.reference import PATTERN_SECONDS
from engine.checks.result import CheckInput, CheckResult, field_value, result
from engine.contract.checks import Choice, Length, Regex

TOKEN = re.compile(r"\w+|[^\w\s]")
COUNTS: dict[str, Callable[[str], int]] = {
    "characters": len,
    "words": lambda text: len(text.split()),
    "tokens": lambda text: len(TOKEN.findall(text)),
}


class FieldCheck(Protocol):
    """Settings of a check of the whole answer or of one of its fields."""

    @property
    def type(self) -> str: ...
    @property
    def field(self) -> str | None: ...


def check_choice(inputs: CheckInput, check: Choice) -> CheckResult:
    """Pass if the value is one of `check.allowed`."""
    return check_value(inputs, check, lambda value: ("" if str(value) in check.allowed else "off_choice", f"{value!r:.80}"))


def check_regex(inputs: CheckInput, check: Regex) -> CheckResult:
    """Pass if `check.pattern` matches the whole value within PATTERN_SECONDS."""

    def tag(value: Any) -> tuple[str, str]:
        try:
            return "" if regex.fullmatch(check.pattern, str(value), timeout=PATTERN_SECONDS) else "off_pattern", f"{value!r:.80}"
        except TimeoutError:
            return "timed_out", f"{check.pattern} took more than {PATTERN_SECONDS:g} s over {value!r:.80}"

    return check_value(inputs, check, tag)


def check_length(inputs: CheckInput, check: Length) -> CheckResult:
    """Pass if the length of the value, in `check.unit`, is in [`check.min`, `check.max`]."""

    def tag(value: Any) -> tuple[str, str]:
        count = COUNTS[check.unit](str(value))
        tag = "too_short" if count < check.min else "too_long" if check.max is not None and count > check.max else ""
        return tag, f"{count} {check.unit}"

    return check_value(inputs, check, tag)


def check_value(inputs: CheckInput, check: FieldCheck, tag_of: Callable[[Any], tuple[str, str]]) -> CheckResult:
    """Return the result of `tag_of`, which maps the checked value to (tag, detail). A missing field fails as `no_field`."""
    exists, value = field_value(inputs.answer, check.field)
    if not exists:
        return result(check.type, "no_field", f"no field {check.field!r}")
    return result(check.type, "") if value is None else result(check.type, *tag_of(value))
