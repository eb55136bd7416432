"""Every value of the answer occurs in the prompt."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from engine.checks.json_answer import shared_json
from engine.checks.numbers import numbers_in
from engine.checks.result import CheckInput, CheckResult, result
from engine.contract.checks import Grounded


def check_grounded(inputs: CheckInput, check: Grounded) -> CheckResult:
    """Pass if each value occurs in the prompt as whole words, without regard to case and white space.

    A number may also be written in another way there: 12.5 as 12.50, 1234 as 1,234. Nulls and booleans are not looked for. Finds
    invented values only: a value of the prompt that belongs to another field passes.
    """
    read = shared_json(inputs.answer)
    form = read and read.value
    if not isinstance(form, dict):
        return result(check.type, "not_json", inputs.answer[:80])
    names = list(form) if check.fields == "all" else [name for name in check.fields if name in form]
    text = normalize(inputs.text)
    stated = [(name, value) for name in names for value in _members(form[name]) if not isinstance(value, bool)]
    absent = [(name, value) for name, value in stated if not _is_in(normalize(str(value)), text)]
    if any(isinstance(value, int | float) for _, value in absent):
        numbers = {number for _, readings in numbers_in(inputs.text) for number in readings}
        absent = [(name, value) for name, value in absent if isinstance(value, str) or Fraction(str(value)) not in numbers]
    invented = [f"{name}={value}" for name, value in absent]
    return result(check.type, "ungrounded" if invented else "", "; ".join(invented))


def values(value: Any) -> Iterator[str]:
    """Yield `value`, or the members of its lists and objects, as strings; nulls are left out."""
    yield from map(str, _members(value))


def _members(value: Any) -> Iterator[str | int | float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _members(item)
    elif value is not None:
        yield value


def occurs(value: str, text: str) -> bool:
    """Return whether `value` occurs in `text` as whole words, without regard to case and white space."""
    return _is_in(normalize(value), normalize(text))


def _is_in(value: str, text: str) -> bool:
    """Return whether `value` occurs in `text` with no character of a word (`\\w`) before or behind it.

    Not by a regular expression: most values are new, and each would be compiled.
    """
    start = text.find(value)
    while start >= 0:
        end = start + len(value)
        if not _is_word(text[start - 1 : start]) and not _is_word(text[end : end + 1]):
            return True
        start = text.find(value, start + 1)
    return False


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def normalize(text: str) -> str:
    """Return `text` case-folded, with each run of white space as one space."""
    return " ".join(text.casefold().split())
