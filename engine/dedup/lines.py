"""Tables of rows that have no schema of their own: JSON, CSV and TSV. What Arrow's reader refuses is read row by row."""

import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from engine.errors import InputError
from engine.readers.raw import RawRow
from engine.readers.schemas import joined_type
from engine.rows import Row

ERRORS = (pa.ArrowException, TypeError, OverflowError, ValueError)


class SchemaDrift(InputError):
    """A row does not fit the columns that were found in the first rows of its file: all rows have to be looked at first."""


def parse(data: bytes, schema: pa.Schema | None = None) -> pa.Table:
    """Return the lines of `data`, in `schema` if it is given, by Arrow's reader. Raises one of ERRORS if it refuses a row."""
    from pyarrow import json as reader

    if not data.strip():
        return (schema or pa.schema([])).empty_table()
    reading = reader.ReadOptions(use_threads=False, block_size=len(data) + 1)  # one block: a line may have any length
    parsing = reader.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error" if schema else "infer")
    return reader.read_json(io.BytesIO(data), read_options=reading, parse_options=parsing)


def infer(data: bytes, rows: Iterable[RawRow]) -> pa.Schema:
    """Return the schema of the lines of `data`; `rows` are its rows, which are read only if Arrow's reader refuses a line."""
    try:
        return pa.schema([(field.name, _without_times(field.type)) for field in parse(data).schema])
    except ERRORS:
        return schema_of(row.fields for row in rows if not row.reason)


def schema_of(rows: Iterable[Row]) -> pa.Schema:
    """Return the schema of plain rows; a column of several kinds of values is a text, other values in it as JSON."""
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return pa.schema([(name, _type_of(values)) for name, values in columns.items()])


def join_lines(one: pa.Schema, other: pa.Schema) -> pa.Schema:
    """Return the schema of lines that have both; a column of types that cannot be joined is a text."""
    fields = {field.name: field.type for field in one}
    for field in other:
        fields[field.name] = joined_type(fields.get(field.name, field.type), field.type) or pa.string()
    return pa.schema(list(fields.items()))


def table_of(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Return plain rows as a table of `schema`; a column that a row lacks is null.

    Raises:
        SchemaDrift: a row has another column, or a value of another type.
    """
    unknown = {name for row in rows for name in row} - set(schema.names)
    if unknown:
        raise SchemaDrift(f"found columns {sorted(unknown)} that are not among {schema.names}")
    return pa.table([_array([row.get(field.name) for row in rows], field) for field in schema], schema=schema)


def _array(values: list[Any], field: pa.Field) -> pa.Array:
    kind = field.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.array([value if value is None or isinstance(value, str) else _as_json(value) for value in values], kind)
    try:
        if pa.types.is_nested(kind) and joined_type(kind, pa.infer_type(values)) != kind:  # Arrow drops keys that a struct lacks
            raise pa.ArrowInvalid("other keys")
        return pa.array(values, kind)
    except ERRORS as error:
        raise SchemaDrift(f"column {field.name!r}: found a value that is no {kind}: {error}") from None


def _type_of(values: list[Any]) -> pa.DataType:
    try:
        return pa.array(values).type  # infer_type passes over values that do not fit
    except ERRORS:
        return pa.string()


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _without_times(kind: pa.DataType) -> pa.DataType:
    """Return a type that Arrow inferred from JSON with texts in place of the times that it took them for."""
    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_without_times(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _without_times(field.type)) for field in kind])
    return kind
