"""The rows of a run's tables against their data contracts, by DuckDB: one scan of a table for all rules of its columns.

Rows are streamed. Uniqueness and references hold the ids of a table, which DuckDB spills to disk when they do not fit.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from typing import Any, NamedTuple

import duckdb
import pyarrow.parquet as pq

from engine.columns import Declaration
from engine.integrity.contracts import COUNTS, DISJOINT, REFERENCES, ROWS, TOTALS, LabelCount, Reference
from engine.integrity.files import SHOWN, WROTE, violation
from engine.integrity.rules import Condition, conditions, quoted
from engine.records.check_data import Rule, Violation
from engine.rows import VERSION
from engine.storage.artifact import Artifact

LONGEST = 80  # characters of a value that is shown


class CheckedTable(NamedTuple):
    """A table whose files are whole, registered in the connection under `job/name`."""

    artifact: Artifact
    name: str
    declared: Declaration

    @property
    def key(self) -> str:
        """Its name in the connection."""
        return f"{self.artifact.record.job}/{self.name}"

    @property
    def ids(self) -> str:
        """SQL of what identifies a row in a message."""
        names = self.declared.unique or [column.name for column in self.declared.columns[:3]]
        return "concat_ws('/', " + ", ".join(f"{quoted(name)}::varchar" for name in names) + ")"


Tables = Mapping[str, CheckedTable]


def check_columns(table: CheckedTable) -> Iterator[Violation]:
    """Yield a violation for each column that a shard of today's version lacks, or has with another type."""
    record = table.artifact.record.tables[table.name]
    if record.schema_version != VERSION:
        return  # a migration fills what an older version did not have
    wrong: dict[tuple[str, str], list[str]] = {}
    for shard in record.shards:
        path = f"{table.name}/{shard.path}"
        with table.artifact.folder.open(path) as file:
            schema = pq.read_schema(file)
        for column in table.declared.columns:
            kind = schema.field(column.name).type if column.name in schema.names else None
            if kind != column.type:
                wrong.setdefault((column.name, f"found {kind or 'no such column'}, expected {column.type}"), []).append(path)
    for (column, found), paths in wrong.items():
        yield violation(
            table.artifact, "column", found, table=table.name, column=column, count=len(paths), ids=paths[:SHOWN], advice=WROTE
        )


def check_rows(connection: duckdb.DuckDBPyConnection, table: CheckedTable) -> Iterator[Violation]:
    """Yield a violation for each rule of the columns, and between the columns, of `table` that some rows break."""
    pattern = next((pattern for pattern in ROWS if fnmatch(table.name, pattern)), "")
    rules = [*conditions(table.declared), *ROWS.get(pattern, ())]
    counts = ", ".join(f"count(*) filter (where {rule.sql})" for rule in rules)
    found = connection.execute(f"select {counts} from {quoted(table.key)}").fetchone() or ()
    for rule, count in zip(rules, found, strict=True):
        if count:
            yield _broken(connection, table, rule, count)
    yield from _repeated(connection, table)


def check_references(connection: duckdb.DuckDBPyConnection, tables: Tables) -> Iterator[Violation]:
    """Yield a violation for each reference between tables that some rows break, and for rows that two disjoint tables share."""
    for reference in REFERENCES:
        for table in _matching(tables, reference.table):
            yield from _dangling(connection, tables, table, reference)
    for one, other, column in DISJOINT:
        if one in tables and other in tables:
            name = quoted(column)
            where = f"{name} in (select {name} from {quoted(other)})"
            rule = Condition(column, "reference", where, f"no row that is in {other}, too", name)
            if count := _count(connection, tables[one], where):
                yield _broken(connection, tables[one], rule, count)


def check_counts(connection: duckdb.DuckDBPyConnection, tables: Tables, artifacts: Mapping[str, Artifact]) -> Iterator[Violation]:
    """Yield a violation for each count of a job's record that its tables, or those that it read, do not have."""
    for labels in COUNTS:
        if labels.table in tables:
            yield from _miscounted(connection, tables[labels.table], labels)
    for key, job, labels in TOTALS:
        if key not in tables or job not in artifacts:
            continue
        counts = artifacts[job].record.row_counts
        expected = sum(counts.rows_out.get(label, 0) for label in labels) if labels else counts.rows_in
        rows = tables[key].artifact.record.tables[tables[key].name].rows
        if rows != expected:
            what = "labels as such" if labels else "took in"
            found = f"the table has {rows} rows, the record of {job} {what} {expected}"
            yield violation(tables[key].artifact, "count", found, table=tables[key].name, advice=WROTE)


def _broken(connection: duckdb.DuckDBPyConnection, table: CheckedTable, rule: Condition, count: int) -> Violation:
    """Return the violation of `rule` by `count` rows, with the first of them."""
    query = f"select {table.ids}, {rule.shown} from {quoted(table.key)} where {rule.sql} limit {SHOWN}"
    rows = connection.execute(query).fetchall()
    values = ", ".join(dict.fromkeys(_short(value) for _, value in rows))
    return _violation(table, rule.rule, rule.column, count, [str(row[0]) for row in rows], f"{values}; expected {rule.expected}")


def _repeated(connection: duckdb.DuckDBPyConnection, table: CheckedTable) -> Iterator[Violation]:
    if not table.declared.unique:
        return
    names = ", ".join(map(quoted, table.declared.unique))
    repeated = f"select {table.ids} as id, count(*) as n from {quoted(table.key)} group by {names} having count(*) > 1"
    count, extra = connection.execute(f"select count(*), sum(n) from ({repeated})").fetchone() or (0, 0)
    if count:
        ids = [row[0] for row in connection.execute(f"{repeated} limit {SHOWN}").fetchall()]
        found = f"{extra} rows have {count} ids; expected one row each"
        yield _violation(table, "unique", ", ".join(table.declared.unique), count, ids, found)


def _dangling(
    connection: duckdb.DuckDBPyConnection, tables: Tables, table: CheckedTable, reference: Reference
) -> Iterator[Violation]:
    targets = []
    for path in reference.to:
        key, _, column = path.rpartition("/")
        targets += [f"select {quoted(column)} as id from {quoted(target.key)}" for target in _matching(tables, key)]
    if not targets:
        return
    value = reference.value or quoted(reference.column)
    known = " union all ".join(targets)
    where = f"{reference.where} and {value} is not null and {value} not in (select id from ({known}) where id is not null)"
    if count := _count(connection, table, where):
        rule = Condition(reference.column, "reference", where, f"a row of {' or '.join(reference.to)}", value)
        yield _broken(connection, table, rule, count)


def _miscounted(connection: duckdb.DuckDBPyConnection, table: CheckedTable, labels: LabelCount) -> Iterator[Violation]:
    query = f"select {quoted(labels.column)}, count(*) from {quoted(table.key)} group by 1"
    found: dict[Any, int] = {labels.names.get(value, value): count for value, count in connection.execute(query).fetchall()}
    listed = table.artifact.record.row_counts.rows_out
    for label in sorted({str(each) for each in found} | (listed.keys() & set(_values(table, labels)))):
        if found.get(label, 0) != listed.get(label, 0):
            text = f"{found.get(label, 0)} rows are {label!r}, the record counts {listed.get(label, 0)}"
            yield _violation(table, "count", labels.column, abs(found.get(label, 0) - listed.get(label, 0)), [], text)


def _values(table: CheckedTable, labels: LabelCount) -> list[str]:
    values = table.declared.by_path[labels.column].rules.values
    return [labels.names.get(value, value) for value in values]


def _matching(tables: Tables, pattern: str) -> list[CheckedTable]:
    return [table for key, table in tables.items() if fnmatch(key, pattern)]


def _count(connection: duckdb.DuckDBPyConnection, table: CheckedTable, where: str) -> int:
    return (connection.execute(f"select count(*) from {quoted(table.key)} where {where}").fetchone() or (0,))[0]


def _violation(table: CheckedTable, rule: Rule, column: str, count: int, ids: list[str], found: str) -> Violation:
    return violation(table.artifact, rule, found, table=table.name, column=column, count=count, ids=ids, advice=WROTE)


def _short(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
