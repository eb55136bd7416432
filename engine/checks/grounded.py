"""Every value that the answer states stands in the prompt."""

import re
from collections.abc import Iterator
from typing import Any

from engine.checks.outcome import Outcome, Seen, outcome, parse
from engine.contract.checks import Grounded


def check_grounded(seen: Seen, check: Grounded) -> Outcome:
    """Pass if each non-null value occurs in the prompt as whole words, blind to case and white space. Catches invention only:
    a value that stands in the prompt but belongs to another field passes."""
    form = parse(seen.answer)
    if not isinstance(form, dict):
        return outcome(check.type, "not_json", seen.answer[:80])
    names = list(form) if check.fields == "all" else [name for name in check.fields if name in form]
    invented = [f"{name}={value}" for name in names for value in values(form[name]) if not occurs(value, seen.text)]
    return outcome(check.type, "ungrounded" if invented else "", "; ".join(invented))


def values(value: Any) -> Iterator[str]:
    """Yield what `value` states: itself, or the members of its lists and objects, nulls left out."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from values(item)
    elif value is not None:
        yield str(value)


def occurs(value: str, text: str) -> bool:
    """Return whether `value` stands in `text` as whole words, blind to case and white space."""
    return re.search(rf"(?<!\w){re.escape(plain(value))}(?!\w)", plain(text)) is not None


def plain(text: str) -> str:
    """Return `text` without difference of case and white space."""
    return " ".join(text.casefold().split())
