"""Every value that the answer states stands in the prompt."""

import re
from collections.abc import Iterator
from typing import Any

from engine.checks.outcome import Outcome, parse
from engine.contract.checks import Grounded


def check_grounded(answer: str, text: str, check: Grounded, schema: dict[str, Any] | None) -> Outcome:
    """Pass if each non-null value occurs in `text` as whole words, blind to case and white space. Catches invention only:
    a value that stands in the prompt but belongs to another field passes."""
    form = parse(answer)
    if not isinstance(form, dict):
        return Outcome(check.type, False, "not_json", answer[:80])
    names = list(form) if check.fields == "all" else [name for name in check.fields if name in form]
    plain = _plain(text)
    invented = [f"{name}={value}" for name in names for value in _values(form[name]) if not _occurs(_plain(value), plain)]
    return Outcome(check.type, False, "ungrounded", "; ".join(invented)[:200]) if invented else Outcome(check.type, True)


def _values(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _values(item)
    elif value is not None:
        yield str(value)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _occurs(value: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None
