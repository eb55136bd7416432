"""What Spark 4 cannot read, or reads as something else, of an Arrow schema in Parquet: its own `ParquetToSparkSchemaConverter`.

Unsigned integers become wider ones or decimals, timestamps in nanoseconds are refused, as are 256-bit decimals and half floats; a
column of nulls has no type; names are compared without regard to case, and must not have ` ,;{}()\\n\\t=`.
"""

from collections.abc import Iterable, Iterator

import pyarrow as pa

FORBIDDEN = " ,;{}()\n\t="


def problems(schema: pa.Schema) -> list[str]:
    """Return what Spark would stumble over, one sentence a column."""
    return [*_of_fields(schema, "")]


def _of_fields(fields: Iterable[pa.Field], parent: str) -> Iterator[str]:
    seen: set[str] = set()
    for field in fields:
        path = f"{parent}{field.name}"
        if field.name.lower() in seen:
            yield f"{path}: another column has this name in other letters"
        if set(field.name) & set(FORBIDDEN):
            yield f"{path}: found a character of {FORBIDDEN!r}"
        seen.add(field.name.lower())
        yield from _of_type(field.type, path)


def _of_type(kind: pa.DataType, path: str) -> Iterator[str]:
    if pa.types.is_struct(kind):
        yield from _of_fields(kind, f"{path}.")
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _of_type(kind.value_type, path)
    elif pa.types.is_dictionary(kind) and not pa.types.is_string(kind.value_type):
        yield f"{path}: found a dictionary of {kind.value_type}"
    elif pa.types.is_unsigned_integer(kind):
        yield f"{path}: found the unsigned {kind}"
    elif (pa.types.is_timestamp(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind)) and kind.unit == "ns":
        yield f"{path}: found {kind} in nanoseconds"
    elif pa.types.is_duration(kind):
        yield f"{path}: found the duration {kind}"
    elif pa.types.is_null(kind):
        yield f"{path}: found the type null"
    elif pa.types.is_decimal256(kind):
        yield f"{path}: found the decimal {kind}"
    elif pa.types.is_float16(kind):
        yield f"{path}: found the half float {kind}"
