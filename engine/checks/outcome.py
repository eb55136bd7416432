"""What a check says, and how it reads an answer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

TAGS = (
    "", "not_json", "off_schema", "ungrounded", "off_choice", "off_pattern", "not_a_number", "out_of_range", "no_field",
    "no_call", "unsupported",
)  # fmt: skip


class Seen(NamedTuple):
    """All that a check looks at."""

    answer: str
    text: str  # the prompt's
    schema: dict[str, Any] | None = None  # the task unit's
    trajectory: Sequence[Mapping[str, Any]] = ()  # turns with tools, rows.TRAJECTORY


class Outcome(NamedTuple):
    """One check's word on one answer; fits the rows of `engine.rows.CHECKS`."""

    check: str
    passed: bool
    tag: str = ""  # one of TAGS; "" when passed
    detail: str = ""


def parse(answer: str) -> Any:
    """Return the JSON value of `answer`, or None if it is no JSON."""
    try:
        return json.loads(answer)
    except ValueError:
        return None


def canonical(answer: str) -> str:
    """Return `answer` in one spelling: compact JSON with sorted keys, or the text without outer blanks."""
    value = parse(answer)
    if value is None and answer.strip() != "null":
        return answer.strip()
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def pick(answer: str, field: str | None) -> tuple[bool, Any]:
    """Return (found, value): of the JSON `field`, or the whole answer as text when `field` is None."""
    if field is None:
        return True, answer.strip()
    value = parse(answer)
    return (True, value[field]) if isinstance(value, dict) and field in value else (False, None)


def is_abstention(answer: str) -> bool:
    """Return whether `answer` is a JSON form in which every field is null."""
    value = parse(answer)
    return isinstance(value, dict) and bool(value) and all(item is None for item in value.values())
