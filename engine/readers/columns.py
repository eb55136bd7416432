"""Columns of a row by name: flat or nested (`data.text`), and which values are none."""

import difflib
import math
from collections.abc import Iterable, Iterator
from typing import Any

from engine.rows import Row

NO_IDS = {"", "nan", "NaN", "NaT", "None", "null", "NULL", "<NA>"}  # as pandas and others write an id that is none


class Nowhere:
    """The value of a column that a row does not have."""


NOWHERE = Nowhere()


def value_of(fields: Row, name: str) -> Any:
    """Return the value of a column; NOWHERE if there is none. `a.b` is `b` in `a`, `a.0` the first of a list, unless the row has
    a column of that very name."""
    if name in fields:
        return fields[name]
    value: Any = fields
    for part in name.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return NOWHERE
    return value


def is_none(value: Any) -> bool:
    """Return whether a value stands for none: null, NaN or an empty text."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def is_no_id(value: Any) -> bool:
    """Return whether a value is no id: none, or none as a text."""
    return is_none(value) or (isinstance(value, str) and value.strip() in NO_IDS)


def names_in(fields: Row, prefix: str = "") -> Iterator[str]:
    """Yield the names of all columns of a row, with those inside others."""
    for name, value in fields.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from names_in(value, f"{prefix}{name}.")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a hint for a column that is nowhere, such as " Did you mean 'text'?"; "" if no name is near."""
    known = list(names)
    lower = {one.lower().strip(): one for one in known}
    near = lower.get(name.lower().strip()) or next(iter(difflib.get_close_matches(name, known, n=1)), None)
    return f" Did you mean {near!r}?" if near else ""
