"""What pydantic finds wrong with a section, in words for whoever writes YAML."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

WORDS = {
    "bool_type": "expected true or false",
    "date_type": "expected a date",
    "dict_type": "expected a mapping",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "int_type": "expected a whole number",
    "list_type": "expected a list",
    "model_attributes_type": "expected a mapping of keys",
    "model_type": "expected a mapping of keys",
    "string_type": "expected text",
    "tuple_type": "expected a list",
    "union_tag_not_found": "expected a mapping with the key `type`",
}
"""Type of a problem -> what was expected, where pydantic's own words are those of Python."""


def causes(error: ValidationError) -> Sequence[Any]:
    """Return the problems of `error` without those that only follow from another one."""
    details = [problem for problem in error.errors() if problem["type"] != "default_factory_not_called"]
    parents = {problem["loc"][:depth] for problem in details for depth in range(len(problem["loc"]))}
    return [problem for problem in details if problem["loc"] not in parents]


def explained(problem: Any) -> str:
    """Return what is wrong, what was found, and what may be meant."""
    if problem["type"] == "value_error":
        return problem["msg"].removeprefix("Value error, ") + "."
    value = problem["input"]
    words = str(WORDS.get(problem["type"], problem["msg"]))
    found = f"found {_shown(value)}, {words}" if words.startswith("expected") else f"{words}. Found {_shown(value)}"
    return f"{found}.{_hint(problem['type'], value)}"


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else f"{value!r:.80}"


def _hint(kind: str, value: object) -> str:
    """Return what a value of another type than the key's is often meant to be."""
    if kind == "string_type" and isinstance(value, bool | int | float):
        return " Quote it if it is text."
    if kind == "tuple_type" and value is not None:
        return " Put it into [...]."
    if kind in ("model_type", "model_attributes_type") and value is None:
        return " Write its keys below it, or {} for the defaults; or leave the key out."
    return ""


def odd_numbers(parsed: object, raw: object, path: str = "") -> Iterator[str]:
    """Yield each number of a section as it was `parsed` that is none as it was written (`raw`), or that nothing later can take.

    pydantic reads `true` as 1, also where a text such as `yes` was meant to be a number; tables hold whole numbers of 64 bits.
    """
    if isinstance(parsed, BaseModel) and isinstance(raw, Mapping):
        for key, value in raw.items():
            yield from odd_numbers(getattr(parsed, str(key), None), value, f"{path}.{key}")
    elif isinstance(parsed, Mapping) and isinstance(raw, Mapping):
        for (key, value), known in zip(raw.items(), parsed.values(), strict=False):
            yield from odd_numbers(known, value, f"{path}.{key}")
    elif isinstance(parsed, list | tuple) and isinstance(raw, list | tuple):
        for number, (known, value) in enumerate(zip(parsed, raw, strict=False)):
            yield from odd_numbers(known, value, f"{path}.{number}")
    elif isinstance(raw, bool) and isinstance(parsed, int | float) and not isinstance(parsed, bool):
        yield f"{path[1:]}: found {_shown(raw)}, expected a number."
    elif isinstance(parsed, int) and not -(2**63) <= parsed < 2**63:
        yield f"{path[1:]}: found {raw}, expected a number of at most 64 bits."
