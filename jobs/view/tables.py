"""Pages of a table: filters, order, search and histograms as DuckDB queries over the shards of a run.

Pages follow a keyset, not an offset: the next one begins behind the last row's sort value and place (shard, row), so that the
thousandth page costs what the first does. A query sorts places alone and DuckDB reads the shown columns of one page afterwards.
"""

import itertools
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import duckdb
import fsspec

from engine.columns import declaration
from engine.errors import InputError
from engine.rows import TABLES, VERSION, Row
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder
from jobs.commands.sql import migrated_shards
from jobs.view.conditions import Ask, behind_of, is_in_nulls, quoted, text_of, where_of

PAGE = 50  # rows
CLIPPED = 240  # characters of a cell; the page of the row has all
MOST_COUNTS = 64  # filters of which it is known how many rows they leave
COUNTED_ROWS = 100_000  # of a table whose every column with few values is looked through
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
LISTED = (
    "pool", "split", "kind", "model", "role", "teacher", "task_unit", "layer", "difficulty", "language", "licence", "source",
    "finish_reason", "dropped_by", "relation", "reason", "student", "scenario", "exact", "valid", "seen", "judge",
    "confidence_tier",
)  # fmt: skip
"""Columns with few values, which get a list in the form; MOST_VALUES at most."""
LATE = "set global late_materialization_max_rows = 1000"  # more than a page; a cursor does not inherit what is not global
NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE")
SCALARS = (*NUMBERS, "VARCHAR", "BOOLEAN")


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
    """The largest value that belongs to it."""


class Table:
    """One table of a run, in a connection that can read its shards and nothing else."""

    def __init__(self, artifact: Artifact, name: str, *, migrated: str = "") -> None:
        """Open the table `name` of `artifact`; `migrated`: where the shards of one of an older version are in today's."""
        table = artifact.table(name)
        self.name, self.total, self.id = name, table.rows, IDS.get(name)
        self.connection = duckdb.connect(":memory:")
        if table.schema_version < VERSION:
            self.paths = migrated_shards(artifact, name, migrated)
        else:
            self.paths = self._place(artifact.folder / name, [shard.path for shard in table.shards])
        self.connection.execute(LATE)
        self.connection.execute(f"set allowed_paths = [{', '.join(text_of(path) for path in self.paths)}]")
        self.connection.execute("set enable_external_access = false")
        self.connection.execute("set lock_configuration = true")
        described = self.connection.execute(f"describe select * from {self._source}").fetchall() if self.paths else []
        self.types: dict[str, str] = {row[0]: row[1] for row in described}
        self._values: dict[str, list[str]] | None = None
        self._counts: dict[tuple[object, ...], int] = {}

    def _place(self, folder: Folder, shards: Sequence[str]) -> list[str]:
        """Return what DuckDB calls the files `shards`; behind a URL it reads them by the file system of `folder`."""
        if folder.is_local:
            return [f"{folder.path}/{shard}" for shard in shards]
        store = fsspec.url_to_fs(folder.url, skip_instance_cache=True)[0]
        if shards:
            store.ls(folder.path)  # the listing is kept, so that no file is asked for its size and time before each query
        self.connection.register_filesystem(store)
        return [store.unstrip_protocol(f"{folder.path}/{shard}") for shard in shards]

    @property
    def _source(self) -> str:
        return f"read_parquet([{', '.join(map(text_of, self.paths))}])"

    @property
    def sortable(self) -> list[str]:
        """Columns that are no lists."""
        return [name for name, kind in self.types.items() if kind in SCALARS]

    @property
    def numeric(self) -> list[str]:
        """Columns of numbers."""
        return [name for name, kind in self.types.items() if kind in NUMBERS]

    def values(self) -> dict[str, list[str]]:
        """Return column -> its values, for the columns with few of them.

        They are counted once, and only where the statistics of the files say that there are several values. Of a closed set that
        is declared a large table shows the whole, uncounted.
        """
        if self._values is None:
            found: dict[str, list[str]] = {}
            closed = _closed_sets(self.name) if self.total > COUNTED_ROWS else {}
            for name in self._various([name for name in LISTED if name in self.types]):
                query = f"select distinct {quoted(name)}::varchar from {self._source} limit {MOST_VALUES + 1}"
                found[name] = closed.get(name) or sorted(row[0] for row in self._all(query) if row[0] is not None)
            self._values = {name: values for name, values in found.items() if 1 < len(values) <= MOST_VALUES}
        return self._values

    def _various(self, columns: Sequence[str]) -> list[str]:
        """Return those of `columns` that have several values, or may have, by the statistics of the row groups."""
        files = ", ".join(map(text_of, self.paths))
        same = (
            f"select path_in_schema from parquet_metadata([{files}]) where path_in_schema in ({', '.join(map(text_of, columns))}) "
            "group by 1 having bool_and(coalesce(stats_min_value is not null or stats_null_count = num_values, false)) "
            "and min(stats_min_value) is not distinct from max(stats_max_value)"
        )
        constant = {row[0] for row in self._all(same)} if columns else set()
        return [name for name in columns if name not in constant]

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
        columns, (where, values) = self.shown(ask.every), where_of(ask, self.types)
        behind, more = behind_of(ask, self.types)
        in_nulls = is_in_nulls(ask)  # they are ordered by place alone, as a table without a sort
        sort = "null" if in_nulls else quoted(ask.sort) if ask.sort else "0"
        cells = [_clipped(name, self.types[name]) for name in columns]
        key = f"{quoted(self.id)}" if self.id else "file_index || '.' || file_row_number"
        order = f"order by {sort} {'desc' if ask.down else 'asc'} nulls last, file_index, file_row_number"
        query = (
            f"select {key}, {sort}, file_index, file_row_number, {', '.join(cells)} from {self._source} "
            f"where {where} and {behind} {order if ask.sort and not in_nulls else ''} limit {PAGE + 1}"
        )
        found = self._all(query, [*values, *more])
        last = found[PAGE - 1] if len(found) > PAGE else None
        after = json.dumps([last[1], last[2], last[3]]) if last else ""
        filled = [at for at in range(len(columns)) if ask.every or any(row[4 + at] not in (None, "") for row in found)]
        rows = [(str(row[0]), [row[4 + at] for at in filled]) for row in found[:PAGE]]
        return Page([columns[at] for at in filled], rows, after, self._matching(ask, len(found)))

    def _matching(self, ask: Ask, found: int) -> int | None:
        """Return how many rows match the filters of `ask`, of which a page has found so many, and one more if there are more."""
        where, values = where_of(ask, self.types)
        if where == "true":
            return None
        if found <= PAGE and not ask.after:  # all of them: a second search would read the whole table again
            return found
        key = (where, *values)
        if key not in self._counts:
            if len(self._counts) >= MOST_COUNTS:
                self._counts.pop(next(iter(self._counts)), None)
            self._counts[key] = self._all(f"select count(*) from {self._source} where {where}", values)[0][0]
        return self._counts[key]

    def row(self, key: str) -> Row | None:
        """Return a whole row by its key; None if there is none."""
        if not self.paths:
            return None
        if self.id:
            return next(iter(self.find(self.id, key, 1)), None)
        shard, _, row = key.partition(".")
        if not (shard.isdigit() and row.isdigit()):
            return None
        return next(iter(self._rows("file_index = ? and file_row_number = ?", [int(shard), int(row)], 1)), None)

    def find(self, column: str, value: str, most: int) -> list[Row]:
        """Return at most `most` whole rows whose `column` is `value`; of a column of ids only few row groups are read."""
        return self._rows(f"{quoted(column)} = ?", [value], most) if self.paths else []

    def _rows(self, where: str, values: list[Any], most: int) -> list[Row]:
        result = self.connection.cursor().execute(f"select * from {self._source} where {where} limit {most}", values)
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def histogram(self, column: str, ask: Ask) -> list[Bar]:
        """Return the rows that match `ask` by the values of `column`, or by BINS ranges of a number."""
        self._check(ask._replace(sort=column))
        where, values = where_of(ask, self.types)
        name = quoted(column)
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
        name, (where, values) = quoted(column), filtered
        width = (high - low) / BINS
        edges = [low + width * number for number in range(BINS)] + [high]
        index = " + ".join(
            f"({name}::double >= {edge!r}::double)::int" for edge in edges[1:-1]
        )  # of these edges alone: as links ask
        query = f"select {index}, count(*) from {self._source} where {where} and isfinite({name}::double) group by 1"
        counts = dict(self._all(query, values))
        ends = enumerate(itertools.pairwise(edges))
        most = [*(math.nextafter(edge, -math.inf) for edge in edges[1:-1]), high]  # an edge belongs to the bar that it begins
        return [Bar(f"{start:.4g} to {end:.4g}", counts.get(each, 0), start, most[each]) for each, (start, end) in ends]

    def _check(self, ask: Ask) -> None:
        named = [*ask.equal, *ask.least, *ask.most, *([ask.sort] if ask.sort else [])]
        if unknown := [name for name in named if name not in self.sortable]:
            raise InputError(
                f"{', '.join(unknown)}: found no such column in {self.name}, expected one of {', '.join(self.sortable)}."
            )
        if unknown := [name for name in [*ask.least, *ask.most] if name not in self.numeric]:
            raise InputError(f"{', '.join(unknown)}: is no number in {self.name}, so it has no least and no most.")

    def _all(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self.connection.cursor().execute(query, list(values)).fetchall()
        except duckdb.ConversionException as error:
            raise InputError(
                f"{self.name}: found a value that its column cannot have: {error}. Correct it in the address."
            ) from None


def warm_up() -> None:
    """Start DuckDB and its Parquet reader once, so that the first page does not wait for them."""
    duckdb.connect(":memory:").execute(LATE).fetchall()


def _closed_sets(table: str) -> dict[str, list[str]]:
    """Return column -> the values that it may have, of the columns of `table` that are declared so."""
    declared = declaration(TABLES[table]) if table in TABLES else None
    return {column.name: sorted(column.rules.values) for column in (declared.columns if declared else ()) if column.rules.values}


def _clipped(name: str, kind: str) -> str:
    """Return a column as a query shows it: lists as text, and long texts cut."""
    if kind in SCALARS and kind != "VARCHAR":
        return quoted(name)
    return f"left({quoted(name)}::varchar, {CLIPPED + 1})"
