"""Rows of a file become prompts, or rejects with their reason."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from engine.prompts import formats
from engine.prompts.files import Slice
from engine.prompts.formats import Raw
from engine.rows import DIFFICULTIES, HOLDOUT, LAYERS, content_id, grow

WORK = grow(  # what travels inside this room; the job writes PROMPT, HOLDOUT, REJECT and DROPPED_PROMPT
    HOLDOUT,
    ("path", pa.string()),  # of the source as the contract writes it
    ("place", pa.int64()),  # file number and line: unique, and in the order of the contract
    ("side", pa.string()),  # train | holdout
    ("round", pa.int32()),  # of synthesis in which it was written, from 1; 0 for a source's row
    ("given_id", pa.string()),  # the source's own id; null if none is mapped
    ("reason", pa.string()),  # one of rows.REJECTED; "" for a sound row
    ("detail", pa.string()),
    ("raw", pa.string()),
)
LINE_BITS = 40  # of `place`; the file number stands above
BATCH = 1_000
RAW_CHARS = 200
ROLES = ("system", "user", "assistant")


class RowReject(Exception):
    """A row that cannot be a prompt: (reason, detail)."""


def prompts(piece: Slice, *, max_chars: int) -> Iterator[pa.Table]:
    """Yield the rows of a file that are wanted, as WORK; `prompt_id` and `redacted` are filled in later."""
    wanted = (raw for row, raw in enumerate(formats.read(piece.url)) if piece.wants(row))
    while batch := list(itertools.islice(wanted, BATCH)):
        yield pa.Table.from_pylist([work(raw, piece, max_chars=max_chars) for raw in batch], schema=WORK)


def identify(rows: pa.Table) -> pa.Table:
    """Return WORK with `prompt_id`: a hash of the source's path and of the messages, which must be redacted by now."""
    ids = [
        None if row["reason"] else content_id(row["path"], json.dumps(row["messages"], sort_keys=True))
        for row in rows.select(["reason", "path", "messages"]).to_pylist()
    ]
    return rows.set_column(rows.schema.get_field_index("prompt_id"), WORK.field("prompt_id"), pa.array(ids, pa.string()))


def work(raw: Raw, piece: Slice, *, max_chars: int) -> dict[str, Any]:
    """Return a row of WORK: a prompt, or why it is none."""
    row: dict[str, Any] = {
        "task_unit": piece.task_unit,
        "source": piece.source,
        "line": raw.line,
        "licence": piece.licence,
        "path": piece.path,
        "redacted": [],
        "place": piece.number << LINE_BITS | raw.line,
        "side": piece.side,
        "round": 0,
        "reason": raw.reason,
        "detail": raw.detail,
        "raw": raw.text[:RAW_CHARS],
    }
    if raw.reason:
        return row
    try:
        return row | _prompt(raw.fields, piece, max_chars)
    except RowReject as fault:
        reason, detail = fault.args
        return row | {"reason": reason, "detail": detail}


def _prompt(fields: dict[str, Any], piece: Slice, max_chars: int) -> dict[str, Any]:
    """Raises Fault."""
    found = {ours: fields.get(theirs) for ours, theirs in piece.columns.items()}
    for ours in ("messages" if "messages" in found else "text", "reference"):
        if ours in found and piece.columns[ours] not in fields:
            raise RowReject("missing_column", f"has no {piece.columns[ours]!r}, which is mapped to {ours}")
    turns = _messages(found["messages"]) if "messages" in found else _one_turn(found["text"])
    chars = sum(len(turn["content"]) for turn in turns)
    if chars > max_chars:
        raise RowReject("too_long", f"{chars} characters, at most {max_chars} are allowed")
    text = "\n".join(turn["content"] for turn in turns if turn["role"] == "user")
    if not text.strip():
        raise RowReject("empty", "the user says nothing")
    return {
        "messages": turns,
        "text": text,
        "layer": _one_of(LAYERS, found.get("layer"), "layer", "core"),
        "difficulty": _one_of(DIFFICULTIES, found.get("difficulty"), "difficulty", "medium"),
        "scenario": _word(found.get("scenario")) or "",
        "language": _word(found.get("language")) or "",
        "reference": _reference(found["reference"]) if "reference" in found else None,
        "given_id": _word(found.get("id")),
    }


def _one_turn(value: Any) -> list[dict[str, str]]:
    if value is None:
        raise RowReject("empty", "the text is null")
    if not isinstance(value, str):
        raise RowReject("bad_value", f"text: found {type(value).__name__}, expected a string")
    return [{"role": "user", "content": _sound(value)}]


def _messages(value: Any) -> list[dict[str, str]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowReject("bad_value", f"messages: not JSON: {error}") from None
    if not value:
        raise RowReject("empty", "there are no messages")
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise RowReject("bad_value", "messages: expected a list of {role, content}")
    for turn in value:
        if turn.get("role") not in ROLES or not isinstance(turn.get("content"), str):
            raise RowReject("bad_value", f"messages: found role {turn.get('role')!r:.40}, expected one of {ROLES} with a text")
    return [{"role": turn["role"], "content": _sound(turn["content"])} for turn in value]


def _sound(text: str) -> str:
    """JSON may spell half a character, such as \\ud800, that no UTF-8 file can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowReject("encoding", f"half a surrogate pair at character {error.start}") from None
    return text


def _one_of(allowed: tuple[str, ...], value: Any, name: str, default: str) -> str:
    if value is None or value == "":
        return default
    if value not in allowed:
        raise RowReject("bad_value", f"{name}: found {value!r:.40}, expected one of {allowed}")
    return value


def _word(value: Any) -> str | None:
    return None if value is None or value == "" else _sound(str(value))


def _reference(value: Any) -> str:
    if value is None or value == "":
        raise RowReject("empty", "the reference is empty")
    return _sound(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":")))
