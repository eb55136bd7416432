"""Values of Parquet as those of Python. What Python has no value for costs its own column and row, not the file.

Text that is no UTF-8 has surrogates for its bytes, as that of CSV; a date or time out of Python's range is an OutOfRange; keys of
maps are texts, as in JSON.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.rows import Row

NO_VALUE = (ValueError, OverflowError, TypeError, KeyError, pa.ArrowException)
"""What Arrow raises for a value that Python has not. A KeyError is one of a time zone."""


@dataclass(frozen=True)
class OutOfRange:
    """A value that Python has not."""

    text: str

    def __str__(self) -> str:
        return self.text


def rows_of(batch: pa.RecordBatch) -> list[Row]:
    """Return the rows of a batch."""
    try:
        rows = batch.to_pylist(maps_as_pydicts="lossy")
    except NO_VALUE:
        columns = [_values(column) for column in batch.columns]
        rows = [dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]
    return [_with_text_keys(row) for row in rows] if any(map(_has_other_keys, batch.schema.types)) else rows


def _values(column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist(maps_as_pydicts="lossy")
    except NO_VALUE:
        return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py(maps_as_pydicts="lossy")
    except NO_VALUE:
        if isinstance(scalar, pa.StructScalar):
            return {field.name: _value(scalar[number]) for number, field in enumerate(scalar.type)}
        if pa.types.is_nested(scalar.type):
            return [_value(item) for item in scalar.values]
        if hasattr(scalar, "as_buffer"):
            return scalar.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")
        return OutOfRange(f"{scalar.type} {scalar.value}")


def _has_other_keys(kind: Any) -> bool:
    """Return whether a type has maps whose keys are no texts."""
    if pa.types.is_map(kind) and not (pa.types.is_string(kind.key_type) or pa.types.is_large_string(kind.key_type)):
        return True
    return pa.types.is_nested(kind) and any(_has_other_keys(kind.field(number).type) for number in range(kind.num_fields))


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {_key(key): _with_text_keys(one) for key, one in value.items()}
    return [_with_text_keys(one) for one in value] if isinstance(value, list) else value


def _key(key: Any) -> str:
    return key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else str(key)
