"""The turns of a conversation with tools: their JSON, the schema of that JSON, and how a result is shown to the model.

A turn is a row of `rows.TRAJECTORY`: role (assistant, tool), content, tool (the one that is called, or ""), ok.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engine.contract.base import JsonSchema
from engine.rows import Row

MAX_CHARS = 1000  # of a result that a model reads


class Call(NamedTuple):
    """A turn that calls a tool."""

    tool: str
    argument: str


class Answer(NamedTuple):
    """The turn that ends a conversation."""

    text: str  # compact JSON if the answer is not a string


def schema(tools: Sequence[str], answer: JsonSchema | None) -> JsonSchema:
    """Return the JSON schema of a turn: a call of one of `tools`, or an answer of schema `answer` (a string if None)."""
    shared, answer = _shared(answer or {"type": "string"})
    ends = _closed(answer=answer)
    if not tools:
        return {**shared, **ends}
    call = _closed(tool={"enum": list(tools)}, argument={"type": "string"})
    return {**shared, "anyOf": [_closed(thought={"type": "string"}, call=call), ends]}


def _shared(answer: JsonSchema) -> tuple[JsonSchema, JsonSchema]:
    """Return definitions for the root of a turn's schema, and the schema of the answer in it: references begin at the root."""
    if '"$ref"' not in json.dumps(answer):
        return {}, answer
    return {"$defs": {"answer": _rebased(answer)}}, {"$ref": "#/$defs/answer"}


def _rebased(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_rebased(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: f"#/$defs/answer{value[1:]}"
        if key == "$ref" and isinstance(value, str) and value.removeprefix("#")[:1] in ("", "/")
        else _rebased(value)
        for key, value in schema.items()
    }


def read(text: str) -> Call | Answer | None:
    """Parse a turn of the model; None if it is neither a call nor an answer."""
    try:
        turn = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match turn:
        case {"call": {"tool": str(tool), "argument": str(argument)}}:
            return Call(valid_unicode(tool), valid_unicode(argument))
        case {"answer": str(answer)}:
            return Answer(valid_unicode(answer))
        case {"answer": answer}:
            return Answer(valid_unicode(json.dumps(answer, ensure_ascii=False, separators=(",", ":"))))
    return None


def message(turn: Row) -> dict[str, str]:
    """Return a turn as a chat message. Results are user messages: not every chat template has a role for tools."""
    if turn["role"] == "assistant":
        return {"role": "assistant", "content": turn["content"]}
    return {"role": "user", "content": f"Result: {turn['content'] or 'nothing'}" if turn["ok"] else f"Failed: {turn['content']}"}


def training_turns(turns: Sequence[Row]) -> list[int]:
    """Return the positions of the turns that are targets of training: the answer, and each call that succeeded.

    A failed call is context only, so that a student learns how to continue after it.
    """
    followers = [*turns[1:], None]
    replies = [(at, after) for at, (turn, after) in enumerate(zip(turns, followers, strict=True)) if turn["role"] == "assistant"]
    return [at for at, after in replies if turns[at]["ok"] and (after is None or after["ok"])]


def valid_unicode(text: str) -> str:
    """Return `text` with unpaired surrogates, which JSON may encode, as `?`."""
    return text.encode("utf-8", "replace").decode("utf-8")


def truncate(text: str) -> str:
    """Return at most MAX_CHARS characters of `text`, with `...` at the end if it was longer."""
    return text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 3]}..."


def _closed(**fields: Mapping[str, object]) -> JsonSchema:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
