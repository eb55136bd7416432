"""Text of models on a page: markup is escaped by the templates; here characters that are not seen, or turn a line, get a name."""

import json
import re
from collections.abc import Mapping

BIDIRECTIONAL = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # characters that change the direction of what follows
UNSEEN = "\u200b\u2060\ufeff"
HIDDEN = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff{BIDIRECTIONAL}{UNSEEN}]")


def visible(text: str) -> str:
    """Return `text` with control and direction characters written as their names; line breaks and tabs stay."""
    return HIDDEN.sub(lambda match: f"<U+{ord(match[0]):04X}>", text)


def cell(value: object, longest: int) -> str:
    """Return a value of a table in one line; text that is longer than `longest` characters is cut."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = visible(" ".join(str(value).split()))
    return text if len(text) <= longest else text[: longest - 3] + "..."


def whole(value: object) -> str:
    """Return a value in full: texts as they are, lists and structs as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list | tuple | Mapping):
        return visible(json.dumps(value, indent=1, ensure_ascii=False, default=str))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
