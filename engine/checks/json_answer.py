"""The one reader of JSON in answers: checks, curation and evaluation read what it reads.

JSON is strict (RFC 8259): `NaN`, `Infinity`, numbers beyond a float, and a key that stands twice in an object are no JSON, as
readers differ on them. A fence around the whole answer is no part of it. Text before the JSON is skipped where the caller allows.
"""

import json
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from engine.contract.specialist import TaskUnit

MAX_DEPTH = 100  # nested levels; deeper output is a degenerate model, and would overflow the stack of a recursive reader
FENCE = re.compile(r"(`{3,}|~{3,})[ \t]*(?:json[a-z0-9]*)?\s*(.*?)\s*\1", re.DOTALL | re.IGNORECASE)


class JsonAnswer(NamedTuple):
    """The JSON of an answer."""

    value: Any
    text: str
    """The JSON as it was written, without fence."""
    before: str
    """The text before it; "" if there is none."""


@lru_cache(maxsize=1)
def shared_json(answer: str) -> JsonAnswer | None:
    """Return `read_json(answer)`. Readers of one answer, one after the other, share the value, which none may change."""
    return read_json(answer)


def read_json(answer: str, *, after_text: bool = False) -> JsonAnswer | None:
    """Return the JSON that `answer` is; with `after_text` the JSON object or array that ends it. None if there is none."""
    text = answer.strip()
    read = _load(text)
    if read is not None or not after_text:
        return read
    for start, character in enumerate(text):
        found = _load(text[start:]) if character in "{[`~" else None
        if found is not None and isinstance(found.value, dict | list):
            before = text[:start].strip()
            return None if _load(before) else found._replace(before=before)  # two answers are none
    return None


def without_text_before(answer: str, unit: TaskUnit) -> tuple[str, str]:
    """Return the text before the JSON that ends `answer`, and the JSON as it was written.

    The text is "" and the answer as it is where `unit` does not allow such text, or where there is none.
    """
    read = read_json(answer, after_text=True) if unit.lenient_json and unit.output.json_schema else None
    return (read.before, read.text) if read is not None and read.before else ("", answer)


def _load(text: str) -> JsonAnswer | None:
    fence = FENCE.fullmatch(text)
    text = fence[2] if fence else text
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    brackets = text.count("[") + text.count("{")  # no value is deeper; these also stand in strings, so that more say nothing
    return JsonAnswer(value, text, "") if brackets < MAX_DEPTH or _is_shallow(value) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is beyond a float")
    return number


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return members


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_without_repeats)


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [child for children in inner for child in children]
        if not level:
            return True
    return False
