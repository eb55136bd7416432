"""What a person asks of a table, and its conditions in SQL."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.errors import InputError

SEARCHED = (
    "text", "answer", "target", "final", "rationale", "limits", "reference", "reasoning", "error", "detail", "raw", "teacher",
    "scenario",
)  # fmt: skip
SEARCHED_IDS = ("prompt_id", "answer_id", "example_id", "pair_id", "parent_id", "duplicate_of", "chosen_id", "rejected_id")
ID_PART = re.compile(r"[0-9a-f]{4,}(-[\w-]*)?")  # a search that may be one of a part of an id: others spare those columns


class Ask(NamedTuple):
    """What a person wants to see of a table."""

    search: str = ""
    """A part of a text, without regard to case."""
    equal: Mapping[str, str] = {}
    """Column -> value."""
    least: Mapping[str, float] = {}
    most: Mapping[str, float] = {}
    sort: str = ""
    down: bool = False
    after: str = ""
    """Where the page before ended, as `Page.after` gave it."""
    every: bool = False
    """Whether all columns are shown."""


def where_of(ask: Ask, types: Mapping[str, str]) -> tuple[str, list[Any]]:
    """Return the condition of the filters on a table with columns of these DuckDB `types`, and its parameters."""
    parts: list[str] = []
    values: list[Any] = []
    for column, value in ask.equal.items():
        parts.append(f"{quoted(column)}::varchar = ?")
        values.append(value)
    for limits, sign in ((ask.least, ">="), (ask.most, "<=")):
        for column, limit in limits.items():
            parts.append(f"{quoted(column)} {sign} ?")
            values.append(limit)
    if ask.search:
        wanted = (*SEARCHED, *SEARCHED_IDS) if ID_PART.fullmatch(ask.search.lower()) else SEARCHED
        columns = [name for name in wanted if types.get(name) == "VARCHAR"]
        parts.append("(" + (" or ".join(f"contains(lower({quoted(name)}), ?)" for name in columns) or "false") + ")")
        values += [ask.search.lower()] * len(columns)
    return " and ".join(parts) or "true", values


def behind_of(ask: Ask, types: Mapping[str, str]) -> tuple[str, list[Any]]:
    """Return the condition that a row comes behind `ask.after`, and its parameters.

    Raises:
        InputError: `ask.after` is no place that a page gave.
    """
    if not ask.after:
        return "true", []
    try:
        value, shard, row = json.loads(ask.after)
        place = [int(shard), int(row)]
    except (ValueError, TypeError):
        raise InputError(f"after: found {ask.after!r}, expected the place that the page before gave.") from None
    behind = "(file_index > ? or (file_index = ? and file_row_number > ?))"
    places: list[Any] = [place[0], *place]
    if not ask.sort:
        return behind, places
    name = quoted(ask.sort)
    if value is None:
        return f"({name} is null and {behind})", places
    typed = f"?::{types[ask.sort]}"
    sign = "<" if ask.down else ">"
    return f"({name} {sign} {typed} or {name} is null or ({name} = {typed} and {behind}))", [value, value, *places]


def is_in_nulls(ask: Ask) -> bool:
    """Return whether the page before ended in the rows without a value of `ask.sort`, which are last."""
    return bool(ask.sort and ask.after) and json.loads(ask.after)[0] is None


def quoted(name: str) -> str:
    """Return a name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def text_of(value: str) -> str:
    """Return a text as SQL."""
    return "'" + value.replace("'", "''") + "'"
