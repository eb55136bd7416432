"""What is said in a conversation with tools: turns as JSON, the schema that holds them, and what a model reads of a result."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

LONGEST = 1000  # characters of a result that a model reads

Turn = dict[str, Any]
"""A row of `rows.TRAJECTORY`: role (assistant, tool), content, tool (the one that is called, or ""), ok."""


class Call(NamedTuple):
    """A turn that calls a tool."""

    tool: str
    argument: str


class Answer(NamedTuple):
    """The turn that ends a conversation."""

    text: str  # JSON where the answer is no plain text


def schema(tools: Sequence[str], answer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the JSON schema of a turn: a call of one of `tools`, or an answer of the schema `answer`, plain text if None."""
    ends = _closed(answer=answer or {"type": "string"})
    if not tools:
        return ends
    call = _closed(tool={"enum": list(tools)}, argument={"type": "string"})
    return {"anyOf": [_closed(thought={"type": "string"}, call=call), ends]}


def read(text: str) -> Call | Answer | None:
    """Return what a turn says; None if it is neither a call nor an answer."""
    try:
        turn = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match turn:
        case {"call": {"tool": str(tool), "argument": str(argument)}}:
            return Call(sound(tool), sound(argument))
        case {"answer": str(answer)}:
            return Answer(sound(answer))
        case {"answer": answer}:
            return Answer(sound(json.dumps(answer, ensure_ascii=False, separators=(",", ":"))))
    return None


def message(turn: Turn) -> dict[str, str]:
    """Return a turn as a model reads it. Results come as the user's words: not every template knows a role for tools."""
    if turn["role"] == "assistant":
        return {"role": "assistant", "content": turn["content"]}
    return {"role": "user", "content": f"Result: {turn['content'] or 'nothing'}" if turn["ok"] else f"Failed: {turn['content']}"}


def learnt(turns: Sequence[Turn]) -> list[int]:
    """Return the positions of the turns that a student should say: the answer, and each call that succeeded.

    A failed call stays in what the student reads, so that it sees how one goes on after it.
    """
    replies = [*turns[1:], None]
    said = [(number, reply) for number, (turn, reply) in enumerate(zip(turns, replies, strict=True)) if turn["role"] == "assistant"]
    return [number for number, reply in said if turns[number]["ok"] and (reply is None or reply["ok"])]


def sound(text: str) -> str:
    """Return `text` as valid Unicode: JSON may spell half a character."""
    return text.encode("utf-8", "replace").decode("utf-8")


def clip(text: str) -> str:
    """Return at most LONGEST characters of `text`, and a sign if there were more."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _closed(**fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
