"""The data contracts of a run's tables as a Data Package (https://datapackage.org/standard/data-package/), for other programs.

A table is a resource, whose Table Schema holds what that standard has words for: types, texts, required values, closed sets,
ranges, primary and foreign keys. All rules, also those on lists, between columns and tables and against a job's record, are there a
second time under `rayleigh:` as SQL for DuckDB, so that whoever has the package and the files can evaluate the whole contract.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch

import pyarrow as pa
from pydantic import JsonValue

from engine.columns import Column, Declaration
from engine.integrity.contracts import COUNTS, DISJOINT, REFERENCES, ROWS, TOTALS, Reference
from engine.integrity.rules import TOLERANCE, conditions, quoted
from engine.integrity.tables import CheckedTable
from engine.rows import VERSION

PROFILE = "https://datapackage.org/profiles/2.0/datapackage.json"
Json = dict[str, JsonValue]


def data_package(name: str, tables: Mapping[str, CheckedTable], *, root: str) -> Json:
    """Return the package of `tables`, `job/table` -> the table; paths are relative to the folder `root` of the run."""
    return {
        "$schema": PROFILE,
        "name": name,
        "rayleigh:schemaVersion": VERSION,
        "resources": [_resource(key, table, tables, root) for key, table in tables.items()],
        "rayleigh:references": [_reference(each) for each in REFERENCES if _matching(each.table, tables)],
        "rayleigh:disjoint": [
            {"tables": [one, other], "column": column} for one, other, column in DISJOINT if one in tables and other in tables
        ],
        "rayleigh:counts": [*_counts(tables)],
    }


def table_schema(declared: Declaration) -> Json:
    """Return the Table Schema of a declared table, without foreign keys. An empty string is a value, only null is missing."""
    fields: list[JsonValue] = [_field(declared, column.name, column) for column in declared.columns]
    unique: Json = {"primaryKey": [*declared.unique]} if declared.unique else {}
    return {"fields": fields, "missingValues": [], **unique}


def _resource(key: str, table: CheckedTable, tables: Mapping[str, CheckedTable], root: str) -> Json:
    stored = table.artifact.record.tables[table.name]
    folder = f"{table.artifact.folder.url.removeprefix(root).strip('/')}/{table.name}"
    keys: list[JsonValue] = [*_foreign_keys(key, tables)]
    return {
        "name": key,
        "description": table.declared.text,
        "path": [f"{folder}/{shard.path}" for shard in stored.shards],
        "format": "parquet",
        "mediatype": "application/vnd.apache.parquet",
        "encoding": "utf-8",
        "bytes": stored.bytes,
        "schema": {**table_schema(table.declared), **({"foreignKeys": keys} if keys else {})},
        "rayleigh:schemaVersion": stored.schema_version,
        "rayleigh:rows": stored.rows,
        "rayleigh:files": [
            {"path": f"{folder}/{shard.path}", "bytes": shard.bytes, "hash": f"sha256:{shard.sha256}", "rows": shard.rows}
            for shard in stored.shards
        ],
        "rayleigh:checks": [*row_rules(table)],
    }


def _field(declared: Declaration, path: str, column: Column) -> Json:
    """Return the field of a column; of a list of structs with their fields as `items`."""
    unit: Json = {"unit": column.rules.unit} if column.rules.unit else {}
    inner = [(name, one) for name, one in declared.by_path.items() if name.startswith(f"{path}.")]
    items: Json = {"items": {"type": "object", "fields": [_field(declared, name, one) for name, one in inner]}} if inner else {}
    if pa.types.is_list(column.type) and not inner:
        items = {"items": {"type": _type(column.type.value_type)}}
    binary: Json = {"format": "binary"} if pa.types.is_binary(column.type) else {}
    limits = _constraints(column)
    about: Json = {"name": column.name, "type": _type(column.type), "description": column.text, **unit, **binary, **items}
    arrow = str(column.type) if not inner else "list<struct>"
    return {**about, **({"constraints": limits} if limits else {}), "rayleigh:arrow": arrow}


def _constraints(column: Column) -> Json:
    rules, is_list = column.rules, pa.types.is_list(column.type)
    listed: dict[str, JsonValue] = {
        "required": True if not rules.null else None,
        "enum": [*rules.values] or None,
        "minLength" if is_list else "minimum": _limit(column, rules.low, -TOLERANCE),
        "maximum": None if is_list else _limit(column, rules.high, TOLERANCE),
    }
    return {name: value for name, value in listed.items() if value is not None}


def _limit(column: Column, value: float | None, slack: float) -> float | int | None:
    """Return a limit as `rayleigh check-data` holds it: floats may be beyond it by `slack`."""
    if value is None:
        return None
    return value + slack if pa.types.is_floating(column.type) else int(value)


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return "array"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "integer"
    return "number" if pa.types.is_floating(kind) else "string"


def row_rules(table: CheckedTable) -> Iterator[JsonValue]:
    """Yield every rule on the rows of a table, as SQL that is true where it is broken."""
    pattern = next((pattern for pattern in ROWS if fnmatch(table.name, pattern)), "")
    for each in [*conditions(table.declared), *ROWS.get(pattern, ())]:
        yield {"column": each.column, "rule": each.rule, "expected": each.expected, "broken": each.sql}
    if table.declared.unique:
        names = ", ".join(map(quoted, table.declared.unique))
        sql = f"count(*) over (partition by {names}) > 1"
        column = ", ".join(table.declared.unique)
        yield {"column": column, "rule": "unique", "expected": "one row each", "broken": sql}


def _foreign_keys(key: str, tables: Mapping[str, CheckedTable]) -> Iterator[JsonValue]:
    """Yield the references that a Table Schema can say: of every row, of the column itself, to one column."""
    for each in REFERENCES:
        target, _, column = each.to[0].rpartition("/")
        said = len(each.to) == 1 and not each.value and each.where == "true"
        if said and fnmatch(key, each.table) and target in tables:
            yield {"fields": [each.column], "reference": {"resource": target, "fields": [column]}}


def _reference(each: Reference) -> Json:
    return {
        "table": each.table, "column": each.column, "value": each.value or quoted(each.column), "where": each.where,
        "in": [*each.to],
    }  # fmt: skip


def _counts(tables: Mapping[str, CheckedTable]) -> Iterator[JsonValue]:
    """Yield which counts of the records the tables must have."""
    for each in COUNTS:
        if each.table in tables:
            yield {"table": each.table, "column": each.column, "labels": {**each.names}}
    for key, job, labels in TOTALS:
        if key in tables:
            yield {"table": key, "job": job, "labels": [*labels]}


def _matching(pattern: str, tables: Mapping[str, CheckedTable]) -> bool:
    return any(fnmatch(key, pattern) for key in tables)
