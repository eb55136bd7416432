"""The body of a request as JSON, within limits; whatever is wrong with it is an error of the caller."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

from starlette.requests import Request

from engine.serving.api_error import ApiError, wrong


class Limits(NamedTuple):
    """What a request may be, and what a server takes."""

    body_bytes: int = 256 * 1024
    depth: int = 16
    """Nested objects and lists of the JSON."""
    messages: int = 64
    """Turns of a chat."""
    body_seconds: float = 10.0
    """For the body to arrive."""
    head_seconds: float = 10.0
    """For the head of a request to arrive."""
    connections: int = 1024
    """Open connections."""
    deadline: float = 30.0
    """Seconds for one request, from its arrival."""
    queue: int = 64
    """Requests that wait while the engine is full."""


async def read_json(request: Request, limits: Limits) -> dict[str, Any]:
    """Return the JSON object in the body of `request`.

    Raises:
        ApiError: the body is too long, does not arrive, is no JSON object, is nested too deep, or repeats a key.
        ClientDisconnect: the caller has gone.
    """
    for name in ("content-encoding", "content-type"):
        _check_header(name, request.headers.get(name, ""))
    data = await _read(request, limits)
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_distinct)
    except RecursionError:
        raise _too_deep(limits) from None
    except ValueError as error:  # not UTF-8, no JSON, a number of a million digits
        raise ApiError(400, "invalid_json", f"The body is no JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise ApiError(400, "invalid_json", f"The body is {kind_of(value)}, expected an object.")
    if _depth(value, limits.depth) > limits.depth:
        raise _too_deep(limits)
    return value


def kind_of(value: object) -> str:
    """Return what JSON calls the kind of a value, with an article."""
    kinds = {bool: "a boolean", dict: "an object", float: "a number", int: "a number", list: "a list", str: "a string"}
    return kinds.get(type(value), "null")


def known(body: dict[str, Any], keys: Iterable[str], where: str = "") -> None:
    """Check that `body` has no other keys than `keys`.

    Raises:
        ApiError: it has.
    """
    allowed = set(keys)
    for key in body:
        if key not in allowed:
            name = f"{where}{key[:64]}"
            raise wrong(name, f"is not known here; known are {', '.join(sorted(allowed))}.", "unknown_parameter")


def text_of(value: object, where: str) -> str:
    """Return `value` if it is a text that UTF-8 can hold.

    Raises:
        ApiError: it is not.
    """
    if not isinstance(value, str):
        raise wrong(where, f"found {kind_of(value)}, expected a string.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise wrong(where, "holds half of a surrogate pair, which is no text.") from None
    return value


def _check_header(name: str, value: str) -> None:
    wanted = "identity" if name == "content-encoding" else "application/json"
    if value and value.partition(";")[0].strip().lower() != wanted:
        raise ApiError(415, "unsupported_media_type", f"{name}: found {value[:64]!r}, expected {wanted}.")


async def _read(request: Request, limits: Limits) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > limits.body_bytes:
        raise _too_long(limits)
    data = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limits.body_bytes:
                    raise _too_long(limits)
    except TimeoutError:
        raise ApiError(408, "request_timeout", f"The body did not arrive within {limits.body_seconds:g} s.") from None
    return bytes(data)


def _depth(value: object, limit: int) -> int:
    """Return the nested levels of `value`, at most one more than `limit`."""
    level, depth = [value], 0
    while depth <= limit and any(isinstance(each, dict | list) for each in level):
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level, depth = [item for items in inner for item in items], depth + 1
    return depth


def _too_long(limits: Limits) -> ApiError:
    return ApiError(413, "body_too_large", f"The body is longer than {limits.body_bytes} bytes.")


def _too_deep(limits: Limits) -> ApiError:
    return ApiError(400, "json_too_deep", f"The JSON is nested deeper than {limits.depth} levels.")


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return found
