"""Every value of the answer occurs in the prompt."""

from collections.abc import Iterator
from typing import Any

from engine.checks.json_answer import shared_json
from engine.checks.result import CheckInput, CheckResult, result
from engine.contract.checks import Grounded


def check_grounded(inputs: CheckInput, check: Grounded) -> CheckResult:
    """Pass if each non-null value occurs in the prompt as whole words, without regard to case and white space.

    Finds invented values only: a value of the prompt that belongs to another field passes.
    """
    read = shared_json(inputs.answer)
    form = read and read.value
    if not isinstance(form, dict):
        return result(check.type, "not_json", inputs.answer[:80])
    names = list(form) if check.fields == "all" else [name for name in check.fields if name in form]
    text = normalize(inputs.text)
    invented = [f"{name}={value}" for name in names for value in values(form[name]) if not _is_in(normalize(value), text)]
    return result(check.type, "ungrounded" if invented else "", "; ".join(invented))


def values(value: Any) -> Iterator[str]:
    """Yield `value`, or the members of its lists and objects, as strings; nulls are left out."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from values(item)
    elif value is not None:
        yield str(value)


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
