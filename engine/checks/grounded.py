"""Every value of the answer occurs in the prompt."""

import re
from collections.abc import Iterator
from typing import Any

from engine.checks.result import CheckInput, CheckResult, parse, result
from engine.contract.checks import Grounded


def check_grounded(inputs: CheckInput, check: Grounded) -> CheckResult:
    """Pass if each non-null value occurs in the prompt as whole words, without regard to case and white space.

    Finds invented values only: a value of the prompt that belongs to another field passes.
    """
    form = parse(inputs.answer)
    if not isinstance(form, dict):
        return result(check.type, "not_json", inputs.answer[:80])
    names = list(form) if check.fields == "all" else [name for name in check.fields if name in form]
    invented = [f"{name}={value}" for name in names for value in values(form[name]) if not occurs(value, inputs.text)]
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
    return re.search(rf"(?<!\w){re.escape(normalize(value))}(?!\w)", normalize(text)) is not None


def normalize(text: str) -> str:
    """Return `text` case-folded, with each run of white space as one space."""
    return " ".join(text.casefold().split())
