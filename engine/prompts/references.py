"""The text of a reference: JSON and Parquet of the same data give the same text."""

import json
from collections.abc import Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from jsonschema import Draft202012Validator, ValidationError
from pydantic import JsonValue


def as_text(value: Any, schema: JsonValue = None) -> str:
    """Return a text as it is, any other value as compact JSON without the nulls that `schema` forbids.

    Parquet has no missing keys: a field that a row lacks is a null of its struct there.

    Raises:
        TypeError, ValueError: the value has no form in JSON, such as NaN, or a Decimal with more digits than a float.
    """
    if isinstance(value, dict | list):
        value = _without_nulls(value, schema)
    elif not isinstance(value, str | int | float):
        value = _plain(value)
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and value == value.to_integral_value() else _float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta | UUID):
        return str(value)
    raise TypeError(f"found {type(value).__name__}, expected a value that JSON has")


def _float(value: Decimal) -> float:
    if value.is_finite() and Decimal(str(float(value))) != value:
        raise ValueError(f"found {value}, expected a number that a float holds; write it as a text")
    return float(value)


def _without_nulls(value: Any, schema: JsonValue) -> Any:
    if not isinstance(schema, dict) or not _has_null(value):
        return value
    forbidden = {path for error in _validator(json.dumps(schema)).iter_errors(value) for path in _nulls(error)}
    return _without(value, forbidden)


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema))


def _has_null(value: Any) -> bool:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(one is None or _has_null(one) for one in values)


def _nulls(error: ValidationError) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of the keys whose null is what is wrong."""
    path = tuple(error.absolute_path)
    if error.instance is None and path:
        yield path
    elif error.validator in ("additionalProperties", "unevaluatedProperties") and isinstance(error.instance, dict):
        known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
        yield from ((*path, key) for key, value in error.instance.items() if value is None and key not in known)
    for cause in error.context or ():
        yield from _nulls(cause)


def _without(value: Any, paths: set[tuple[Any, ...]], path: tuple[Any, ...] = ()) -> Any:
    """Return `value` without the keys of objects at `paths`."""
    if isinstance(value, dict):
        return {
            key: _without(one, paths, (*path, key)) for key, one in value.items() if one is not None or (*path, key) not in paths
        }
    if isinstance(value, list):
        return [_without(one, paths, (*path, number)) for number, one in enumerate(value)]
    return value
