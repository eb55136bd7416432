"""Older artifacts as today's columns: one step a schema version, by the columns that a table has."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.rows import CANDIDATE, CHECKS, MARKS, TRAJECTORY

SIGNALS = ("complexity", "quality", "ifd", "density")


def _with_ways(rows: pa.Table) -> pa.Table:
    """Version 2: an answer says which rule chose its teacher, what was thought and which tools were called before it."""
    if not {"answer_id", "teacher"} <= set(rows.column_names):
        return rows
    return _filled(rows, {"route": "", "reasoning": "", "trajectory": pa.scalar([], TRAJECTORY)})


def _with_judgements(rows: pa.Table) -> pa.Table:
    """Version 3: references, what each rubric said and whether it decided, relations, tiers, parents, signals, kinds of example."""
    if {"messages", "source"} <= set(rows.column_names):
        rows = _filled(rows, {"reference": pa.scalar(None, pa.string())})
    if {"agreement", "confidence"} <= set(rows.column_names):
        rows = _filled(rows, {"marks": pa.scalar([], MARKS), "disagreement": pa.scalar(None, pa.float32())})
        rows = rows.append_column("gated", pc.is_valid(rows["confidence"]))
    if {"pool", "reasons"} <= set(rows.column_names):
        unknown = {name: pa.scalar(None, CANDIDATE.field(name).type) for name in ("tier", *SIGNALS)}
        rows = _filled(rows, {"relation": "", "parents": pa.scalar([], pa.list_(pa.string())), **unknown})
    if {"example_id", "target"} <= set(rows.column_names):
        rows = _filled(rows, {"kind": "answer", "tier": pa.scalar(None, pa.int32())})
    if {"role", "exact"} <= set(rows.column_names):
        rows = _filled(rows, {"checks": pa.scalar([], CHECKS)})
    return rows


def _filled(rows: pa.Table, columns: dict[str, Any]) -> pa.Table:
    """Append those of `columns` that are not there, each with one value."""
    for name, value in columns.items():
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
    return rows


MIGRATIONS: dict[int, Callable[[pa.Table], pa.Table]] = {1: _with_ways, 2: _with_judgements}
"""Schema version -> the step from its tables, with all their columns, to the next version's."""
