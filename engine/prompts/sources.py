"""Rows of a file become prompts, or rejects with a reason."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from engine.prompts.conversation import Conversation, RowReject, read_conversation, valid_unicode
from engine.prompts.files import SourceFile
from engine.prompts.references import as_text
from engine.readers.columns import NOWHERE, is_no_id, is_none, value_of
from engine.readers.raw import RawRow
from engine.rows import DIFFICULTIES, HOLDOUT, LAYERS, Row, content_id, grow

INGESTED = grow(  # internal to this room; the job writes PROMPT, HOLDOUT, REJECT and DROPPED_PROMPT
    HOLDOUT,
    ("path", pa.string()),  # of the source as the contract writes it
    ("row_key", pa.int64()),  # file number and line: unique, and in the order of the contract
    ("split", pa.string()),  # train | holdout
    ("round", pa.int32()),  # of synthesis in which it was written, from 1; 0 for a source's row
    ("source_id", pa.string()),  # the source's own id; null if none is mapped
    ("reason", pa.string()),  # one of rows.REJECTED; "" for a valid row
    ("detail", pa.string()),
    ("raw", pa.string()),
    ("is_cut", pa.bool_()),  # whether turns after the last one of the user were cut off; null for a reject
    ("missing", pa.list_(pa.string())),  # mapped columns that the row does not have; null if it could not be read
)
LINE_BITS = 40  # lower bits of `row_key`; the upper ones are the file number
BATCH = 1_000
RAW_CHARS = 200


def prompts(file: SourceFile, *, max_chars: int) -> Iterator[pa.Table]:
    """Yield the taken rows of a file as tables of INGESTED; `prompt_id` and `redacted` are filled in later.

    Raises:
        InputError: the file is damaged, and its source has not `damaged: keep`.
    """
    taken = file.rows()
    while batch := list(itertools.islice(taken, BATCH)):
        yield pa.Table.from_pylist([ingest_row(raw, file, max_chars=max_chars) for raw in batch], schema=INGESTED)


def identify(rows: pa.Table) -> pa.Table:
    """Return INGESTED with `prompt_id`: a hash of the source's path and of the messages, which must be redacted already."""
    ids = [
        None if row["reason"] else content_id(row["path"], json.dumps(row["messages"], sort_keys=True))
        for row in rows.select(["reason", "path", "messages"]).to_pylist()
    ]
    return rows.set_column(rows.schema.get_field_index("prompt_id"), INGESTED.field("prompt_id"), pa.array(ids, pa.string()))


def ingest_row(raw: RawRow, file: SourceFile, *, max_chars: int) -> Row:
    """Return a row of INGESTED: a prompt, or a reject with its reason."""
    row: Row = {
        "task_unit": file.task_unit,
        "source": file.source,
        "line": raw.line,
        "licence": file.licence,
        "path": file.path,
        "redacted": [],
        "row_key": file.number << LINE_BITS | raw.line,
        "split": file.split,
        "round": 0,
        "reason": raw.reason,
        "detail": raw.detail,
        "raw": raw.text[:RAW_CHARS],
        "missing": None,
    }
    if raw.reason:
        return row
    values = {column: value_of(raw.fields, theirs) for column, theirs in file.columns.items()}
    row["missing"] = [file.columns[column] for column, value in values.items() if value is NOWHERE]
    try:
        return row | _prompt(values, file, max_chars)
    except RowReject as reject:
        reason, detail = reject.args
        return row | {"reason": reason, "detail": detail}


def _prompt(values: Row, file: SourceFile, max_chars: int) -> Row:
    """Return the columns of a prompt; `values` are those of the mapped columns. Raises RowReject."""
    if file.may_lack_reference and (values.get("reference") is NOWHERE or is_none(values.get("reference"))):
        values = {column: value for column, value in values.items() if column != "reference"}
    for column in ("messages" if "messages" in values else "text", "reference"):
        if column in values and values[column] is NOWHERE:
            raise RowReject("missing_column", f"has no {file.columns[column]!r}, which is mapped to {column}")
    values = {column: None if value is NOWHERE else value for column, value in values.items()}
    if "messages" in values:
        turns, answer, is_cut = _conversation(values["messages"], file)
    else:
        turns, answer, is_cut = _user_turn(values["text"]), None, False
    chars = sum(len(turn["content"]) for turn in turns)
    if chars > max_chars:
        raise RowReject("too_long", f"{chars} characters, at most {max_chars} are allowed")
    text = "\n".join(turn["content"] for turn in turns if turn["role"] == "user")
    if not text.strip():
        raise RowReject("empty", "the user says nothing")
    reference = _reference(values["reference"], file) if "reference" in values else answer
    if reference is None and file.needs_reference:
        raise RowReject("empty", "no reference: none is mapped, and the conversation does not end with a text of the assistant")
    return {
        "messages": turns,
        "text": text,
        "layer": _choice(LAYERS, values.get("layer"), "layer", "core"),
        "difficulty": _choice(DIFFICULTIES, values.get("difficulty"), "difficulty", "medium"),
        "scenario": _optional(values.get("scenario")) or "",
        "language": _optional(values.get("language")) or "",
        "reference": reference,
        "source_id": None if is_no_id(values.get("id")) else _optional(values.get("id")),
        "is_cut": is_cut,
    }


def _user_turn(value: Any) -> list[dict[str, str]]:
    if value != "" and is_none(value):
        raise RowReject("empty", "the text is null")
    if not isinstance(value, str):
        raise RowReject("bad_value", f"text: found {type(value).__name__}, expected a string")
    return [{"role": "user", "content": valid_unicode(value)}]


def _conversation(value: Any, file: SourceFile) -> Conversation:
    """Return the conversation of a row, its answer kept only if it is to be the reference. Raises RowReject."""
    found = read_conversation(value)
    if found.is_cut and file.last_assistant == "reject":
        raise RowReject(
            "ends_with_assistant", "the conversation goes on after the last turn of the user, expected a turn of the user"
        )
    return found if file.last_assistant == "reference" else found._replace(answer=None)


def _choice(allowed: tuple[str, ...], value: Any, name: str, default: str) -> str:
    if is_none(value):
        return default
    if value not in allowed:
        raise RowReject("bad_value", f"{name}: found {value!r:.40}, expected one of {allowed}")
    return value


def _optional(value: Any) -> str | None:
    return None if is_none(value) else valid_unicode(str(value))


def _reference(value: Any, file: SourceFile) -> str:
    if is_none(value):
        raise RowReject("empty", "the reference is empty")
    try:
        return valid_unicode(as_text(value, file.schema))
    except (TypeError, ValueError) as error:
        raise RowReject("bad_value", f"reference: {error}") from None
