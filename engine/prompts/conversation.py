"""A conversation as data sets write it, as turns of `rows.MESSAGES`: OpenAI's messages, content in parts, ShareGPT.

    {"role": "user", "content": "..."}                                   OpenAI, Hugging Face, TRL
    {"role": "user", "content": [{"type": "text", "text": "..."}]}       content in parts: their texts are joined by line breaks
    {"from": "human", "value": "..."}                                    ShareGPT
    {"role": "model", "parts": [{"text": "..."}]}                        Gemini

What stands after the last turn of the user (an answer, perhaps with calls of tools) is no part of a prompt: it is cut off. A call
or a result of a tool before it cannot be shown to a teacher, so the row is a reject.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
    "ai": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool", "tool_response": "tool",
    "function_response": "tool", "function_call": "call", "tool_call": "call",
}  # fmt: skip
"""Role in a data set -> our role; `call` and `tool` are a call of a tool and its result, which end up in no prompt."""
ROLE_KEYS, CONTENT_KEYS = ("role", "from"), ("content", "value", "parts")
CALL_KEYS = ("tool_calls", "function_call")
CALL_PARTS = ("tool_use", "tool_result", "tool_call", "function_call", "functionCall", "functionResponse", "function_response")
NOT_SHOWN = ("thinking", "redacted_thinking", "reasoning")  # parts that a chat template leaves out of earlier turns
MEDIA = ("image", "audio", "video", "file", "document", "inline_data", "inlineData")  # beginnings of the types of parts

Turn = dict[str, str]
"""`role` (system, user, assistant) and `content`."""


class RowReject(Exception):
    """A row that cannot be a prompt: (reason, detail)."""


class Conversation(NamedTuple):
    """A prompt, and what followed it in the data set."""

    turns: list[Turn]
    answer: str | None  # text of the last turns of the assistant, which are cut off; None if there is none
    is_cut: bool  # whether anything followed the last turn of the user


class _Content(NamedTuple):
    """The content of one turn."""

    text: str
    has_call: bool = False


def read_conversation(value: object) -> Conversation:
    """Return the conversation of a row, a list of turns or its JSON.

    Raises:
        RowReject: `empty`, `bad_value`, `unknown_role`, `tool_calls`, `media` or `encoding`, with what was found and expected.
    """
    turns = _turns(value)
    roles = [_role(turn, place) for place, turn in enumerate(turns, 1)]
    end = len(turns)
    while end and roles[end - 1] in ("assistant", "call", "tool"):
        end -= 1
    if not end:
        raise RowReject("empty", f"no turn of the user: found the roles {', '.join(_found(turn) for turn in turns)[:80]}")
    prompt = [{"role": role, "content": _prompt_text(turns, place, role)} for place, role in enumerate(roles[:end])]
    return Conversation(prompt, _answer(turns[end:], roles[end:], first=end), end < len(turns))


def valid_unicode(text: str) -> str:
    """Return `text`. JSON may encode an unpaired surrogate, such as \\ud800, which no UTF-8 file can hold: raise RowReject."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowReject("encoding", f"half a surrogate pair at character {error.start}") from None
    return text


def _turns(value: object) -> Sequence[Mapping[str, object]]:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RowReject("bad_value", f"messages: not JSON: {error}") from None
    if not value:
        raise RowReject("empty", "there are no messages")
    if not isinstance(value, list):
        raise RowReject("bad_value", f"messages: found {type(value).__name__}, expected a list of turns with role and content")
    for place, turn in enumerate(value, 1):
        if not isinstance(turn, dict):
            raise RowReject(
                "bad_value", f"{_at(place, value)}: found {type(turn).__name__}, expected an object with role and content"
            )
    return value


def _role(turn: Mapping[str, object], place: int) -> str:
    """Return our role of a turn; `call` if the assistant calls a tool."""
    found = _first(turn, ROLE_KEYS)
    if found is None:
        raise RowReject("bad_value", f"turn {place}: found the keys {sorted(turn)}, expected role and content, or from and value")
    role = ROLES.get(found.strip().lower()) if isinstance(found, str) else None
    if role is None:
        raise RowReject("unknown_role", f"turn {place}: found the role {found!r:.40}, expected one of {', '.join(ROLES)}")
    return "call" if role == "assistant" and any(turn.get(key) for key in CALL_KEYS) else role


def _prompt_text(turns: Sequence[Mapping[str, object]], place: int, role: str) -> str:
    """Return the text of a turn of the prompt."""
    where, turn = _at(place + 1, turns), turns[place]
    if role in ("call", "tool"):
        what = "calls a tool" if role == "call" else "is the result of a tool"
        raise RowReject("tool_calls", f"{where} ({_found(turn)}) {what}, expected only texts before the last turn of the user")
    content = _content(turn, where)
    if content.has_call:
        raise RowReject(
            "tool_calls", f"{where} ({_found(turn)}) calls a tool, expected only texts before the last turn of the user"
        )
    return content.text


def _answer(turns: Sequence[Mapping[str, object]], roles: Sequence[str], *, first: int) -> str | None:
    """Return the text of the assistant's turns after the last result of a tool; None if it is none, or no text."""
    texts: list[str] = []
    for place, (turn, role) in enumerate(zip(turns, roles, strict=True), first + 1):
        texts = [] if role != "assistant" else texts
        if role == "assistant":
            try:
                texts.append(_content(turn, f"turn {place}").text)
            except RowReject:
                return None  # it is no reference, and the prompt does not need it
    return "\n\n".join(text for text in texts if text.strip()) or None


def _content(turn: Mapping[str, object], where: str) -> _Content:
    found = _first(turn, CONTENT_KEYS)
    if isinstance(found, dict):  # as ChatGPT exports it
        found = found.get("parts", [found])
    if isinstance(found, str):
        return _Content(valid_unicode(found))
    if not isinstance(found, list):
        kind = "null" if found is None else type(found).__name__
        raise RowReject("bad_value", f"{where} ({_found(turn)}): found {kind} as content, expected a text or a list of text parts")
    parts = [_part(part, f"{where} ({_found(turn)}), part {number}") for number, part in enumerate(found, 1)]
    texts = [part.text for part in parts if part]
    return _Content("\n".join(texts), any(part.has_call for part in parts if part))


def _part(part: object, where: str) -> _Content | None:
    """Return one part of a content; None if it is not shown to a model again."""
    if isinstance(part, str):
        return _Content(valid_unicode(part))
    if not isinstance(part, dict):
        raise RowReject("bad_value", f"{where}: found {type(part).__name__}, expected a text or an object with type and text")
    filled = {key: value for key, value in part.items() if value is not None}  # Parquet gives every part the keys of all
    kind = filled.get("type") or next((key for key in filled if key != "text"), "text")
    text = filled.get("text", filled.get("refusal"))
    if kind in NOT_SHOWN:
        return None
    if kind in CALL_PARTS:
        return _Content("", has_call=True)
    if str(kind).removeprefix("input_").startswith(MEDIA):
        raise RowReject("media", f"{where}: found {kind!r:.40}, expected only parts of type text")
    if not isinstance(text, str):
        raise RowReject(
            "bad_value", f"{where}: found type {kind!r:.40} with the keys {sorted(filled)}, expected type text and a text"
        )
    return _Content(valid_unicode(text))


def _first(turn: Mapping[str, object], keys: Sequence[str]) -> object:
    return next((turn[key] for key in keys if turn.get(key) is not None), None)


def _found(turn: Mapping[str, object]) -> str:
    return f"{_first(turn, ROLE_KEYS)!s:.40}"


def _at(place: int, turns: Sequence[object]) -> str:
    return f"turn {place} of {len(turns)}"
