"""Tokens of a reply: what the server reports where the texts bear it out, else an estimate, so that a cap of the budget holds."""

import logging
from collections.abc import Mapping
from functools import cache
from math import ceil
from typing import NamedTuple

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

log = logging.getLogger(__name__)

BYTES = 4  # of a token, where tokens are estimated: English text has 4 to 5, other languages have fewer
MOST_BYTES = 16  # of a token on average: a report of fewer tokens is not believed
ABSURD = 10_000_000  # tokens of one request, or more than that: no model reads or writes as many
IN, OUT = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")
COUNT = TypeAdapter(NonNegativeInt)


class Usage(NamedTuple):
    """Tokens of one request."""

    tokens_in: int
    tokens_out: int


def billed(usage: object, *, prompt: str, answer: str, limit: int = 0) -> Usage:
    """Return the tokens of a request with the texts `prompt` and `answer` (reasoning included) for which a server reports `usage`.

    A missing, negative or absurd count, and one of fewer tokens than the text can have, is replaced by the text's bytes divided by
    BYTES; tokens out by `limit`, too, which is the request's `max_tokens` if the answer was cut off there. Tokens out that only the
    total counts, as of reasoning that is not shown, are tokens out.
    """
    fields = usage if isinstance(usage, Mapping) else {}
    read, written, total = _count(fields, IN), _count(fields, OUT), _count(fields, ("total_tokens",))
    if total is not None and read is not None:
        written = max(written or 0, total - read)
    return Usage(_at_least(read, prompt, 0), _at_least(written, answer, limit))


def reported_out(usage: object) -> int:
    """Return the tokens out that the server reports, 0 without a usable report."""
    return (_count(usage, OUT) if isinstance(usage, Mapping) else None) or 0


def _count(fields: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    for name in names:
        try:
            value = COUNT.validate_python(fields.get(name))
        except ValidationError:
            continue
        if not isinstance(fields[name], bool) and value < ABSURD:
            return value
    return None


def _at_least(count: int | None, text: str, limit: int) -> int:
    size = len(text.encode("utf-8", "replace"))
    if count is not None and count * MOST_BYTES >= size:
        return count
    _warn_once()
    return max(ceil(size / BYTES), limit)


@cache
def _warn_once() -> None:
    log.warning(
        "The server reports no usage, or fewer tokens than its texts can have; tokens are then counted as bytes divided by %d.",
        BYTES,
    )
