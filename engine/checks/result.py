"""Input and result of a check, and how a check reads an answer."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from engine.checks.json_answer import read_json, shared_json, without_text_before
from engine.contract.base import JsonSchema
from engine.contract.specialist import TaskUnit
from engine.rows import Row

NOT_COMPARED = ("no_reference", "unreadable_number")
"""Tags of checks that could not compare, which is not the answer's fault."""
TAGS = (
    "",
    "no_answer",  # its finish_reason is not `stop`
    "no_reference",  # the prompt has no reference to compare with; not a fault of the answer
    "unreadable_number",  # a number that cannot be read without a guess; neither right nor wrong
    "not_json", "off_schema", "no_field", "off_choice", "off_pattern",
    "ungrounded", "no_citation", "unknown_citation", "misquoted", "no_call", "unsupported",
    "not_a_number", "off_unit", "out_of_range", "off_reference", "not_math",
    "no_code", "tests_failed", "crashed", "unfinished", "forbidden",
    "sql_failed", "off_result",
    "timed_out", "out_of_memory", "too_much_output",
    "off_language", "too_short", "too_long", "repetitive", "leaked_prompt", "refused", "not_refused", "barred_word",
)  # fmt: skip


DETAIL_CHARS = 200
_COMPACT = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class CheckInput(NamedTuple):
    """An answer and all of its context that a check may use."""

    answer: str
    text: str = ""  # of the prompt: the user's turns
    schema: JsonSchema | None = None  # of the task unit
    trajectory: Sequence[Row] = ()  # turns with tools, rows.TRAJECTORY
    reference: str | None = None  # of the prompt
    instructions: Sequence[str] = ()  # the task unit's instruction and the prompt's system turns
    task_unit: str = ""
    scenario: str = ""
    language: str = ""

    @classmethod
    def of(cls, row: Row, unit: TaskUnit) -> "CheckInput":
        """Return the input for a row of ANSWER, or for a row of HOLDOUT with `answer` added."""
        system = [turn["content"] for turn in row.get("messages") or () if turn["role"] == "system"]
        return cls(
            without_text_before(row["answer"], unit)[1],
            row["text"],
            unit.output.json_schema,
            row.get("trajectory") or (),
            row.get("reference"),
            [unit.instruction, *system],
            unit.name,
            row.get("scenario") or "",
            row.get("language") or "",
        )


class CheckResult(NamedTuple):
    """Result of one check of one answer; has the fields of `engine.rows.CHECKS`."""

    check: str
    passed: bool
    tag: str = ""  # one of TAGS; "" if passed
    detail: str = ""
    """At most DETAIL_CHARS characters. Of a failed check it is part of the repair prompt, so its wording is part of cache keys; of
    a passed one it is empty, or a note that nothing was compared, or how."""


def result(check: str, tag: str, detail: str = "") -> CheckResult:
    """Return a result, which is passed if `tag` is empty, and then has no detail."""
    return CheckResult(check, not tag, tag, _storable(detail) if tag else "")


def passed(check: str, note: str = "") -> CheckResult:
    """Return a passed result with a note that says how the answer was compared, or why not."""
    return CheckResult(check, True, "", _storable(note))


def _storable(detail: str) -> str:
    """Unpaired surrogates become `?`: no file can hold them."""
    return detail[:DETAIL_CHARS].encode("utf-8", "replace").decode()


def parse(answer: str) -> Any:
    """Return the JSON value of `answer`, see `json_answer`; None if it is not JSON."""
    read = read_json(answer)
    return None if read is None else read.value


def canonical(answer: str) -> str:
    """Return `answer` normalised for comparison: compact JSON with sorted keys, or the stripped text if it is not JSON."""
    read = shared_json(answer)
    return answer.strip() if read is None else _COMPACT.encode(read.value)


def is_exact(answer: str, reference: str, schema: JsonSchema | None) -> bool:
    """Return whether `answer` equals `reference`: as JSON if there is a schema, else as text without outer white space."""
    return canonical(answer) == canonical(reference) if schema else answer.strip() == reference.strip()


def field_value(answer: str, field: str | None) -> tuple[bool, Any]:
    """Return (exists, value) of the JSON `field`, or of the whole answer as text if `field` is None."""
    if field is None:
        return True, answer.strip()
    value = parse(answer)
    return (True, value[field]) if isinstance(value, dict) and field in value else (False, None)


def prose(answer: str) -> str:
    """Return the natural-language text of `answer`: the strings among the values of a JSON answer, else all of it."""
    value = parse(answer)
    return "\n".join(_texts(value)) if isinstance(value, dict | list) else answer


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def is_abstention(answer: str) -> bool:
    """Return whether `answer` is a JSON object in which every field is null."""
    read = shared_json(answer) if "null" in answer else None
    value = read and read.value
    return isinstance(value, dict) and bool(value) and all(item is None for item in value.values())
