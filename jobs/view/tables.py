"""Pages of a table: filters, order, search and histograms as DuckDB queries over the shards of a run.

Pages follow a keyset, not an offset: the next one begins behind the last row's sort value and place (shard, row), so that the
thousandth page costs what the first does. A query sorts places alone and DuckDB reads the shown columns of one page afterwards.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import duckdb

from engine.errors import InputError
from engine.rows import VERSION, Row
from engine.storage.artifact import Artifact

PAGE = 50  # rows
CLIPPED = 240  # characters of a cell; the page of the row has all
MOST_VALUES = 24  # different values of a column that is filtered by a list
BINS = 20
SHOWN_COLUMNS = 9
IDS = {
    "prompts": "prompt_id", "holdout": "prompt_id", "dropped": "prompt_id", "candidates": "answer_id", "picked": "answer_id",
    "examples": "example_id", "preferences": "pair_id",
}  # fmt: skip
"""Table -> the column that names a row; rows of other tables are named by their place."""
FIRST = (
    "answer_id", "example_id", "pair_id", "prompt_id", "model", "student", "step", "split", "pool", "dropped_by", "kind", "teacher",
    "text", "target", "answer", "reference", "exact", "confidence", "reason", "detail", "raw", "finish_reason", "reasons", "loss",
    "metric", "source", "line", "scenario", "difficulty", "layer",
)  # fmt: skip
"""Columns that are shown without a wish, most telling first."""
SEARCHED = (
    "text", "answer", "target", "final", "rationale", "limits", "reference", "reasoning", "error", "detail", "raw", "duplicate_of",
    "prompt_id", "answer_id", "example_id",
)  # fmt: skip
LISTED = (
    "pool", "split", "kind", "model", "role", "teacher", "task_unit", "layer", "difficulty", "language", "licence", "source",
    "finish_reason", "dropped_by", "relation", "reason", "student", "scenario", "exact", "valid", "seen", "judge",
    "confidence_tier",
)  # fmt: skip
"""Columns with few values, which get a list in the form; MOST_VALUES at most."""
NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE")
SCALARS = (*NUMBERS, "VARCHAR", "BOOLEAN")


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


class Page(NamedTuple):
    """Rows of a table. Each begins with its key."""

    columns: list[str]
    """Without `every`, those in which a row of the page has a value."""
    rows: list[tuple[str, list[Any]]]
    after: str
    """Where the next page begins; "" = this is the last one."""
    matching: int | None
    """Rows that match the filters; None without any."""


class Bar(NamedTuple):
    """One bar of a histogram."""

    label: str
    rows: int
    low: float | None = None
    high: float | None = None


class Table:
    """One table of a run, in a connection that can read its shards and nothing else."""

    def __init__(self, artifact: Artifact, name: str) -> None:
        """Open the table `name` of `artifact`.

        Raises:
            InputError: the table is behind a URL, or of an older version; `rayleigh sql` reads those.
        """
        table = artifact.table(name)
        if not artifact.folder.is_local or table.schema_version < VERSION:
            raise InputError(f"{artifact.folder}/{name}: is behind a URL or of an older version: `rayleigh sql` reads it.")
        self.name, self.total, self.id = name, table.rows, IDS.get(name)
        self.paths = [f"{artifact.folder.path}/{name}/{shard.path}" for shard in table.shards]
        self.connection = duckdb.connect(":memory:")
        self.connection.execute("set late_materialization_max_rows = 1000")
        self.connection.execute(f"set allowed_paths = [{', '.join(_text(path) for path in self.paths)}]")
        self.connection.execute("set enable_external_access = false")
        self.connection.execute("set lock_configuration = true")
        described = self.connection.execute(f"describe select * from {self._source}").fetchall() if self.paths else []
        self.types: dict[str, str] = {row[0]: row[1] for row in described}
        self._values: dict[str, list[str]] = {}

    @property
    def _source(self) -> str:
        return f"read_parquet([{', '.join(map(_text, self.paths))}])"

    @property
    def sortable(self) -> list[str]:
        """Columns that are no lists."""
        return [name for name, kind in self.types.items() if kind in SCALARS]

    @property
    def numeric(self) -> list[str]:
        """Columns of numbers."""
        return [name for name, kind in self.types.items() if kind in NUMBERS]

    def values(self) -> dict[str, list[str]]:
        """Return column -> its values, for the columns with few of them."""
        for name in LISTED:
            if name in self.types and name not in self._values:
                query = f"select distinct {_quoted(name)}::varchar from {self._source} limit {MOST_VALUES + 1}"
                self._values[name] = sorted(row[0] for row in self._all(query) if row[0] is not None)
        return {name: found for name, found in self._values.items() if 1 < len(found) <= MOST_VALUES}

    def shown(self, every: bool) -> list[str]:
        """Return the columns that a page shows."""
        telling = [name for name in FIRST if name in self.types and name != self.id]
        rest = [name for name in self.types if name not in (*telling, self.id)]
        return [*telling, *rest] if every else (telling or rest)[:SHOWN_COLUMNS]

    def page(self, ask: Ask) -> Page:
        """Return the page of rows that `ask` wants.

        Raises:
            InputError: it names a column that the table does not have, or a place that is none.
        """
        if not self.paths:
            return Page([], [], "", None)
        self._check(ask)
        columns, (where, values) = self.shown(ask.every), self._where(ask)
        matching = self._all(f"select count(*) from {self._source} where {where}", values)[0][0] if where != "true" else None
        behind, more = self._behind(ask)
        sort = _quoted(ask.sort) if ask.sort else "0"
        cells = [_clipped(name, self.types[name]) for name in columns]
        key = f"{_quoted(self.id)}" if self.id else "file_index || '.' || file_row_number"
        order = f"order by {sort} {'desc' if ask.down else 'asc'} nulls last, file_index, file_row_number" if ask.sort else ""
        query = (
            f"select {key}, {sort}, file_index, file_row_number, {', '.join(cells)} from {self._source} "
            f"where {where} and {behind} {order} limit {PAGE + 1}"
        )
        found = self._all(query, [*values, *more])
        last = found[PAGE - 1] if len(found) > PAGE else None
        after = json.dumps([last[1], last[2], last[3]]) if last else ""
        filled = [at for at in range(len(columns)) if ask.every or any(row[4 + at] not in (None, "") for row in found)]
        rows = [(str(row[0]), [row[4 + at] for at in filled]) for row in found[:PAGE]]
        return Page([columns[at] for at in filled], rows, after, matching)

    def row(self, key: str) -> Row | None:
        """Return a whole row by its key; None if there is none."""
        if not self.paths:
            return None
        if self.id:
            where, values = f"{_quoted(self.id)} = ?", [key]
        else:
            shard, _, row = key.partition(".")
            if not (shard.isdigit() and row.isdigit()):
                return None
            where, values = "file_index = ? and file_row_number = ?", [int(shard), int(row)]
        result = self.connection.cursor().execute(f"select * from {self._source} where {where} limit 1", values)
        names, found = [column[0] for column in result.description or ()], result.fetchone()
        return dict(zip(names, found, strict=True)) if found else None

    def histogram(self, column: str, ask: Ask) -> list[Bar]:
        """Return the rows that match `ask` by the values of `column`, or by BINS ranges of a number."""
        self._check(ask._replace(sort=column))
        where, values = self._where(ask)
        name = _quoted(column)
        if column in self.numeric:
            ends = f"select min({name}), max({name}) from {self._source} where {where} and isfinite({name}::double)"
            low, high = self._all(ends, values)[0]
            if low is None:
                return []
            if high > low:
                return self._bins(column, (where, values), float(low), float(high))
        query = f"select {name}::varchar, count(*) from {self._source} where {where} group by 1 order by 2 desc, 1 limit {BINS}"
        return [Bar("(null)" if label is None else label, count) for label, count in self._all(query, values)]

    def _bins(self, column: str, filtered: tuple[str, list[Any]], low: float, high: float) -> list[Bar]:
        name, (where, values) = _quoted(column), filtered
        width = (high - low) / BINS
        index = f"least(floor(({name}::double - {low!r}) / {width!r}), {BINS - 1})::int"
        query = f"select {index}, count(*) from {self._source} where {where} and isfinite({name}::double) group by 1"
        counts = dict(self._all(query, values))
        edges = [low + width * number for number in range(BINS)] + [high]
        ends = enumerate(itertools.pairwise(edges))
        return [Bar(f"{start:.4g} to {end:.4g}", counts.get(number, 0), start, end) for number, (start, end) in ends]

    def _where(self, ask: Ask) -> tuple[str, list[Any]]:
        """Return the condition of the filters, and its parameters."""
        parts: list[str] = []
        values: list[Any] = []
        for column, value in ask.equal.items():
            parts.append(f"{_quoted(column)}::varchar = ?")
            values.append(value)
        for limits, sign in ((ask.least, ">="), (ask.most, "<=")):
            for column, limit in limits.items():
                parts.append(f"{_quoted(column)} {sign} ?")
                values.append(limit)
        if ask.search:
            columns = [name for name in SEARCHED if name in self.types]
            parts.append("(" + (" or ".join(f"contains(lower({_quoted(name)}), ?)" for name in columns) or "false") + ")")
            values += [ask.search.lower()] * len(columns)
        return " and ".join(parts) or "true", values

    def _behind(self, ask: Ask) -> tuple[str, list[Any]]:
        """Return the condition that a row comes behind `ask.after`, and its parameters."""
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
        name = _quoted(ask.sort)
        if value is None:
            return f"({name} is null and {behind})", places
        typed = f"?::{self.types[ask.sort]}"
        sign = "<" if ask.down else ">"
        return f"({name} {sign} {typed} or {name} is null or ({name} = {typed} and {behind}))", [value, value, *places]

    def _check(self, ask: Ask) -> None:
        named = [*ask.equal, *ask.least, *ask.most, *([ask.sort] if ask.sort else [])]
        if unknown := [name for name in named if name not in self.sortable]:
            raise InputError(
                f"{', '.join(unknown)}: found no such column in {self.name}, expected one of {', '.join(self.sortable)}."
            )
        if unknown := [name for name in [*ask.least, *ask.most] if name not in self.numeric]:
            raise InputError(f"{', '.join(unknown)}: is no number in {self.name}, so it has no least and no most.")

    def _all(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.connection.cursor().execute(query, list(values)).fetchall()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _clipped(name: str, kind: str) -> str:
    """Return a column as a query shows it: lists as text, and long texts cut."""
    if kind in SCALARS and kind != "VARCHAR":
        return _quoted(name)
    return f"left({_quoted(name)}::varchar, {CLIPPED + 1})"
