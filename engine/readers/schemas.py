"""One schema for files of one kind: columns by name, and types that hold the values of all."""

from collections.abc import Iterable

import pyarrow as pa

from engine.errors import InputError

TEXTS = (pa.string(), pa.large_string(), pa.string_view())


def join(schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
    """Return the schema whose types hold all values of `schemas`, which are (file, schema); its columns are in the order of the
    first file, new ones at the end.

    Null fits every type; texts may be string, large_string or a dictionary; numbers widen. A column that a file lacks is null in
    it.

    Raises:
        InputError: a column has types that cannot be joined.
    """
    joined, first = pa.schema([]), ""
    for name, schema in schemas:
        first = first or name
        if schema.equals(joined):
            continue
        fields = {field.name: field.type for field in joined}
        for field in schema:
            ours = fields.get(field.name, field.type)
            if (found := joined_type(ours, field.type)) is None:
                raise InputError(
                    f"{name}: found column {field.name!r} as {field.type}, expected {ours} as in {first}: no type holds both. "
                    "Convert one of the files, or give them to separate commands."
                )
            fields[field.name] = found
        joined = pa.schema(list(fields.items()))
    return joined


def joined_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of both types; None if there is none."""
    if one.equals(other):
        return one
    try:
        schemas = [pa.schema([("joined", simple(kind))]) for kind in (one, other)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def simple(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values of a dictionary, or string for its view; any other type as it is."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.string() if kind == pa.string_view() else kind


def plain(kind: pa.DataType) -> pa.DataType:
    """Return string for each form of text, and any other type as it is: the form in which ids are compared."""
    return pa.string() if simple(kind) in TEXTS else simple(kind)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return `table` in exactly `schema`; a column that it lacks is null. Raises pa.ArrowException if a value does not fit."""
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema.remove_metadata())
