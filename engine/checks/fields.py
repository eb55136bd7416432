"""Checks of one value: a choice, a pattern, a range. A null field passes: whether it may be null is the schema's word."""

import re
from typing import Any

from engine.checks.outcome import Outcome, Seen, pick
from engine.contract.checks import Choice, Numeric, Regex


def check_choice(seen: Seen, check: Choice) -> Outcome:
    """Pass if the value is one of `check.of`."""
    return _judge(seen.answer, check, lambda value: "" if str(value) in check.of else "off_choice")


def check_regex(seen: Seen, check: Regex) -> Outcome:
    """Pass if the whole value matches `check.pattern`."""
    return _judge(seen.answer, check, lambda value: "" if re.fullmatch(check.pattern, str(value)) else "off_pattern")


def check_numeric(seen: Seen, check: Numeric) -> Outcome:
    """Pass if the value is a number in [`low`, `high`]; a thousands comma is read."""

    def tag(value: Any) -> str:
        try:
            number = float(str(value).replace(",", ""))
        except ValueError:
            return "not_a_number"
        low, high = check.low, check.high
        return "out_of_range" if (low is not None and number < low) or (high is not None and number > high) else ""

    return _judge(seen.answer, check, tag)


def _judge(answer: str, check: Choice | Regex | Numeric, tag_of: Any) -> Outcome:
    found, value = pick(answer, check.field)
    if not found:
        return Outcome(check.type, False, "no_field", f"no field {check.field!r}")
    tag = "" if value is None else tag_of(value)
    return Outcome(check.type, not tag, tag, f"{value!r:.80}" if tag else "")
