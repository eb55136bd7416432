"""What a check says, and how it reads an answer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engine.contract.specialist import TaskUnit

TAGS = (
    "",
    "no_answer",  # it did not end by itself
    "no_reference",  # nothing to compare with: no fault of the answer
    "not_json", "off_schema", "no_field", "off_choice", "off_pattern",
    "ungrounded", "no_citation", "unknown_citation", "misquoted", "no_call", "unsupported",
    "not_a_number", "off_unit", "out_of_range", "off_reference", "not_math",
    "no_code", "tests_failed", "crashed", "unfinished", "forbidden",
    "sql_failed", "off_result",
    "timed_out", "out_of_memory", "too_much_output",
    "off_language", "too_short", "too_long", "repetitive", "leaked_prompt", "refused", "not_refused", "barred_word",
)  # fmt: skip


DEEPEST = 100  # levels of JSON; what is deeper is a model that lost its way, and would exhaust the stack of whoever walks it


class Seen(NamedTuple):
    """All that a check looks at."""

    answer: str
    text: str = ""  # the prompt's
    schema: dict[str, Any] | None = None  # the task unit's
    trajectory: Sequence[Mapping[str, Any]] = ()  # turns with tools, rows.TRAJECTORY
    reference: str | None = None  # the prompt's own
    told: Sequence[str] = ()  # instruction and system turns
    task_unit: str = ""
    scenario: str = ""
    language: str = ""

    @classmethod
    def of(cls, row: Mapping[str, Any], unit: TaskUnit) -> "Seen":
        """Return what is to be seen of a row of ANSWER, or of HOLDOUT with its answer."""
        system = [turn["content"] for turn in row.get("messages") or () if turn["role"] == "system"]
        return cls(
            row["answer"],
            row["text"],
            unit.output.json_schema,
            row.get("trajectory") or (),
            row.get("reference"),
            [unit.instruction, *system],
            unit.name,
            row.get("scenario") or "",
            row.get("language") or "",
        )


class Outcome(NamedTuple):
    """One check's word on one answer; fits the rows of `engine.rows.CHECKS`."""

    check: str
    passed: bool
    tag: str = ""  # one of TAGS; "" when passed
    detail: str = ""


def outcome(check: str, tag: str, detail: str = "") -> Outcome:
    """Return what a check says: it passes if there is no `tag`. JSON may spell half a character, which no file can hold."""
    return Outcome(check, not tag, tag, detail[:200].encode("utf-8", "replace").decode() if tag else "")


def parse(answer: str) -> Any:
    """Return the JSON value of `answer`, or None if it is no JSON or deeper than DEEPEST."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return value if _is_shallow(value) else None


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [child for children in inner for child in children]
        if not level:
            return True
    return False


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


def said(answer: str) -> str:
    """Return what `answer` says: of JSON the texts in its values, else all of it."""
    value = parse(answer)
    return "\n".join(_texts(value)) if isinstance(value, dict | list) else answer


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def is_abstention(answer: str) -> bool:
    """Return whether `answer` is a JSON form in which every field is null."""
    value = parse(answer)
    return isinstance(value, dict) and bool(value) and all(item is None for item in value.values())
