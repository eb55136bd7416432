"""Migrations of tables, one step per schema version, and of records. A step recognises a table by the columns that it has."""

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from engine.records.base import Json
from engine.rows import CANDIDATE, CHECKS, DIMENSION_SCORES, STEP, TOKEN_LOGPROBS, TRAJECTORY, VERSION, Row

SIGNALS = ("complexity", "quality", "ifd", "density")
RENAMED = {  # version 3 -> version 4
    "ending": "finish_reason",
    "marks": "dimension_scores",
    "disagreement": "rubric_spread",
    "gated": "judge_decides",
    "tier": "confidence_tier",
    "rep_id": "duplicate_of",
}
OLDER_FOLDERS = {"token_usage/teachers": "purse/teachers", "token_usage/judges": "purse/judges"}
"""Folder of a run's ledger -> its name up to schema version 3; both are read."""
REASONS = {"judge_unpaid": "judge_budget_exhausted", "ending_unpaid": "finish_reason_budget_exhausted"}


def _to_2(rows: pa.Table) -> pa.Table:
    """Version 2 adds the route, the reasoning and the tool calls of an answer."""
    if not {"answer_id", "teacher"} <= set(rows.column_names):
        return rows
    return _filled(rows, {"route": "", "reasoning": "", "trajectory": pa.scalar([], TRAJECTORY)})


def _to_3(rows: pa.Table) -> pa.Table:
    """Version 3 adds references, rubric scores, relations, tiers, parents, signals and kinds of example."""
    if {"messages", "source"} <= set(rows.column_names):
        rows = _filled(rows, {"reference": pa.scalar(None, pa.string())})
    if {"agreement", "confidence"} <= set(rows.column_names):
        rows = _filled(rows, {"marks": pa.scalar([], DIMENSION_SCORES), "disagreement": pa.scalar(None, pa.float32())})
        rows = rows.append_column("gated", pc.is_valid(rows["confidence"]))
    if {"pool", "reasons"} <= set(rows.column_names):
        unknown = {name: pa.scalar(None, CANDIDATE.field(name).type) for name in SIGNALS} | {"tier": pa.scalar(None, pa.int32())}
        rows = _filled(rows, {"relation": "", "parents": pa.scalar([], pa.list_(pa.string())), **unknown})
    if {"example_id", "target"} <= set(rows.column_names):
        rows = _filled(rows, {"kind": "answer", "tier": pa.scalar(None, pa.int32())})
    if {"role", "exact"} <= set(rows.column_names):
        rows = _filled(rows, {"checks": pa.scalar([], CHECKS)})
    return rows


def _to_4(rows: pa.Table) -> pa.Table:
    """Version 4 renames columns and the values that named an answer which the budget did not reach."""
    rows = rows.rename_columns([RENAMED.get(name, name) for name in rows.column_names])
    if "finish_reason" in rows.column_names:
        rows = _mapped(rows, "finish_reason", {"unpaid": "budget_exhausted"})
    if "reasons" in rows.column_names:
        renamed = [None if tags is None else [_reason(tag) for tag in tags] for tags in rows["reasons"].to_pylist()]
        rows = rows.set_column(rows.column_names.index("reasons"), "reasons", pa.array(renamed, pa.list_(pa.string())))
    return rows


def _to_5(rows: pa.Table) -> pa.Table:
    """Version 5 adds the seed, the exact match and the parts of the loss of a student's steps."""
    if not {"student", "learning_rate"} <= set(rows.column_names):
        return rows
    added = ("seed", "metric", "served", "unconstrained", "parts")
    return _filled(rows, {name: pa.scalar(None, STEP.field(name).type) for name in added})


def _to_6(rows: pa.Table) -> pa.Table:
    """Version 6 adds the log-probabilities of an answer's tokens."""
    if not {"answer_id", "logprob"} <= set(rows.column_names):
        return rows
    return _filled(rows, {"token_logprobs": pa.scalar(None, TOKEN_LOGPROBS)})


def _reason(tag: str) -> str:
    """Return today's tag; rules of a contract (`rule:NAME`) keep theirs."""
    renamed = REASONS.get(tag, tag)
    return f"finish_reason_{renamed.removeprefix('ending_')}" if renamed.startswith("ending_") else renamed


def _mapped(rows: pa.Table, column: str, values: Mapping[str, str]) -> pa.Table:
    """Replace values of a string column: older value -> today's."""
    renamed = pa.array([values.get(value, value) for value in rows[column].to_pylist()], pa.string())
    return rows.set_column(rows.column_names.index(column), column, renamed)


def _filled(rows: pa.Table, columns: Row) -> pa.Table:
    """Append those of `columns` (name -> value of every row) that the table lacks."""
    for name, value in columns.items():
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
    return rows


MIGRATIONS: dict[int, Callable[[pa.Table], pa.Table]] = {1: _to_2, 2: _to_3, 3: _to_4, 4: _to_5, 5: _to_6}
"""Schema version -> the step that turns its tables, read with all their columns, into those of the next version."""


def migrate(rows: pa.Table, version: int) -> pa.Table:
    """Return `rows`, which schema `version` wrote, in the current version."""
    for older in range(version, VERSION):
        rows = MIGRATIONS[older](rows)
    return rows


RENAMED_METRICS = {"unpaid": "budget_exhausted", "tiers": "confidence_tiers"}
RENAMED_LABELS = {"elsewhere": "not_routed", "spared": "early_stopped", "unpaid": "budget_exhausted"}  # of row counts


def promote(record: Json) -> Json:
    """Return the JSON of an artifact's record, of any version, with the keys of today.

    Version 1 called `row_counts` `tally` and `metrics` `facts`. The recipe stays as it is: `fingerprint` is its hash.
    """
    if "tally" not in record:
        return record
    others = {key: value for key, value in record.items() if key not in ("tally", "facts")}
    row_counts, metrics = _with_keys(record["tally"], RENAMED_LABELS), _with_keys(record["facts"], RENAMED_METRICS)
    return {**others, "row_counts": row_counts, "metrics": metrics}


def _with_keys(value: object, names: Mapping[str, str]) -> object:
    """Return a JSON value with every key renamed, at any depth."""
    if isinstance(value, dict):
        return {names.get(key, key): _with_keys(inner, names) for key, inner in value.items()}
    return [_with_keys(inner, names) for inner in value] if isinstance(value, list) else value
