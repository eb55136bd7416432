"""What the columns of a table mean: text, unit, closed set, limits, declared once where the schema is declared.

`declare` and `structs` return plain Arrow types, so that rows in memory carry no text. `documented` puts what was declared into the
metadata of a schema, which Parquet keeps; documents and `rayleigh check-data` read the same declarations.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

TABLE_KEY, COLUMNS_KEY = b"rayleigh.table", b"rayleigh.columns"


@dataclass(frozen=True)
class Rules:
    """What the values of a column may be."""

    null: bool = False
    """Whether a value may be missing."""
    values: tuple[str, ...] = ()
    """The closed set of a column of strings."""
    unit: str = ""
    low: float | None = None
    """Least value; of a list the least length."""
    high: float | None = None
    key: bool = False
    """Whether rows are looked up by it: Parquet gets a Bloom filter."""


class Column(NamedTuple):
    """One column of a declaration; a plain tuple of three or four items is one, too."""

    name: str
    type: pa.DataType
    text: str
    rules: Rules = Rules()


class About(NamedTuple):
    """What a table is."""

    text: str
    base: pa.Schema | None = None
    """A declared schema whose columns come first."""
    unique: tuple[str, ...] = ()
    """Columns whose values together occur once; without them those of `base`."""
    split: str = ""
    """Column whose values have shards of their own, so that a reader can load them apart; "" = rows of all are together."""


@dataclass(frozen=True)
class Declaration:
    """What is known of a table."""

    text: str
    columns: tuple[Column, ...]
    unique: tuple[str, ...] = ()
    """Columns whose values together occur once."""
    split: str = ""
    """Column whose values have shards of their own."""
    by_path: dict[str, Column] = field(default_factory=dict, compare=False)
    """Path of a column, `messages.role` for one inside of a list of structs -> the column."""


_TABLES: dict[pa.Schema, Declaration] = {}
_STRUCTS: dict[pa.DataType, tuple[Column, ...]] = {}
ColumnLike = tuple[Any, ...]
"""Name, type and text of a column, and its rules where it has some: the arguments of `Column`."""


def _columns(columns: Iterable[ColumnLike]) -> tuple[Column, ...]:
    return tuple(Column(*column) for column in columns)


def structs(*columns: ColumnLike) -> pa.DataType:
    """Return the type of a list of structs with `columns`.

    Raises:
        ValueError: the same type was declared with other texts.
    """
    listed = _columns(columns)
    kind = pa.list_(pa.struct([(column.name, column.type) for column in listed]))
    if _STRUCTS.setdefault(kind, listed) != listed:
        raise ValueError(f"{kind} is declared twice, with other texts")
    return kind


def declare(about: About, *columns: ColumnLike) -> pa.Schema:
    """Return the schema of a table with `columns`.

    Raises:
        KeyError: the base was not declared.
        ValueError: the same columns were declared with other texts.
    """
    inherited = _TABLES[about.base] if about.base is not None else Declaration("", ())
    listed = (*inherited.columns, *_columns(columns))
    paths = {column.name: column for column in listed}
    paths |= {f"{outer.name}.{inner.name}": inner for outer in listed for inner in _STRUCTS.get(outer.type, ())}
    schema = pa.schema([(column.name, column.type) for column in listed])
    declaration = Declaration(about.text, listed, about.unique or inherited.unique, about.split, paths)
    if _TABLES.setdefault(schema, declaration) != declaration:
        raise ValueError(f"{schema.names} are declared twice, with other texts")
    return schema


def declaration(schema: pa.Schema) -> Declaration | None:
    """Return what was declared of `schema`; None if it is no declared table."""
    return _TABLES.get(schema.remove_metadata())


def description(column: Column) -> dict[str, object]:
    """Return all that is declared of a column, as plain JSON; keys without a value, and what is false, are left out."""
    rules = column.rules
    listed = {
        "description": column.text, "nullable": rules.null or None, "values": list(rules.values), "unit": rules.unit,
        "minimum": rules.low, "maximum": rules.high, "key": rules.key or None,
    }  # fmt: skip
    return {name: value for name, value in listed.items() if value not in ("", [], None)}


def documented(schema: pa.Schema, *, version: int) -> pa.Schema:
    """Return `schema` with what was declared of it as metadata; `schema` itself if it has some already, or was not declared.

    Each field, also one inside of a list of structs, has the keys of `description`, values other than strings as JSON. The schema
    has the same as one JSON object, path -> description, for readers that do not see the metadata of fields, and the table's own.
    """
    found = None if schema.metadata and TABLE_KEY in schema.metadata else declaration(schema)
    if found is None:
        return schema
    table = {"description": found.text, "schema_version": version, "unique": list(found.unique), "split": found.split}
    columns = {path: description(column) for path, column in found.by_path.items()}
    fields = [pa.field(column.name, _documented_type(column.type), metadata=_metadata(column)) for column in found.columns]
    return pa.schema(fields, metadata={**(schema.metadata or {}), TABLE_KEY: _json(table), COLUMNS_KEY: _json(columns)})


def plain(schema: pa.Schema) -> pa.Schema:
    """Return `schema` without what was declared of it; other metadata of the schema stay, such as the version of a ledger."""
    return pa.schema([(one.name, _plain_type(one.type)) for one in schema], metadata=own_metadata(schema) or None)


def own_metadata(schema: pa.Schema) -> dict[bytes, bytes]:
    """Return the metadata of the schema that `documented` did not put there."""
    return {key: value for key, value in (schema.metadata or {}).items() if key not in (TABLE_KEY, COLUMNS_KEY)}


def described(metadata: Mapping[bytes, bytes] | None) -> Mapping[str, Mapping[str, Any]]:
    """Return path of a column -> its description from the metadata of a schema or a Parquet file; {} if it has none."""
    return json.loads((metadata or {}).get(COLUMNS_KEY, b"{}"))


def about(metadata: Mapping[bytes, bytes] | None) -> Mapping[str, Any]:
    """Return `description`, `schema_version`, `unique` and `split` of a table from the same metadata; {} if it has none."""
    return json.loads((metadata or {}).get(TABLE_KEY, b"{}"))


def key_columns(documented: pa.Schema) -> list[str]:
    """Return the columns by which rows of a `documented` schema are looked up."""
    return [one.name for one in documented if (one.metadata or {}).get(b"key") == b"true"]


def _documented_type(kind: pa.DataType) -> pa.DataType:
    columns: Iterable[Column] = _STRUCTS.get(kind, ())
    fields = [pa.field(column.name, column.type, metadata=_metadata(column)) for column in columns]
    return pa.list_(pa.struct(fields)) if fields else kind


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([(one.name, _plain_type(one.type)) for one in kind])
    return pa.list_(kind.value_field.with_type(_plain_type(kind.value_type)).remove_metadata()) if pa.types.is_list(kind) else kind


def _metadata(column: Column) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in description(column).items()}


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()
