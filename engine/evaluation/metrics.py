"""What an answer is worth beside its reference, and the numbers that follow from all answers of a model."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from engine.checks import CheckInput, canonical, parse, run_checks
from engine.contract.checks import JsonSchema
from engine.contract.specialist import TaskUnit
from engine.stats.bootstrap import Array, Measure, divide, mean

TP, FP, FN = 0, 1, 2


class Grades(NamedTuple):
    """One model's answers against the references, row by row in the holdout's order. Counts are true +, false +, false -."""

    exact: Array  # (n,) 1 = right as a whole
    valid: Array  # (n,) 1 = fits the JSON schema; nan where the task unit has none
    confidence: Array  # (n,) nan where the model gives none
    fields: dict[str, Array]  # field -> (n, 3) counts of stated values
    abstained: Array  # (n, 3) counts of nulls over all fields
    checks: dict[str, Array]  # check -> (n,) 1 = passes; nan where it does not look


def grade(predictions: pa.Table, units: Mapping[str, TaskUnit]) -> Grades:
    """Grade PREDICTION rows; `valid` and `exact` are read as they stand.

    A value that differs from the reference is both a false positive and a false negative (slot filling: Makhoul et al., 1999). An
    answer that is no JSON object states nothing and abstains from nothing. A field that an object leaves out is null.
    """
    rows = predictions.select(["task_unit", "reference", "answer"]).to_pylist()
    fields = {name: np.zeros((len(rows), 3)) for name in _field_names(units)}
    abstained = np.zeros((len(rows), 3))
    for index, row in enumerate(rows):
        unit = units[row["task_unit"]]
        wanted, found = parse(row["reference"]), parse(row["answer"])
        for key in _keys(unit):
            value = found.get(key) if isinstance(found, dict) else _UNREADABLE
            counts = compare_field(wanted.get(key) if isinstance(wanted, dict) else None, value)
            fields[_label(unit, key, units)][index] += counts.stated
            if unit.on_missing == "abstain":
                abstained[index] += counts.abstained
    exact, valid, confidence = (_numbers(predictions, column) for column in ("exact", "valid", "confidence"))
    return Grades(exact, valid, confidence, fields, abstained, _passes(predictions))


def _passes(predictions: pa.Table) -> dict[str, Array]:
    rows = [{one["check"]: one["passed"] for one in outcomes or ()} for outcomes in predictions["checks"].to_pylist()]
    names = sorted({name for row in rows for name in row})
    return {name: np.array([float(row.get(name, np.nan)) for row in rows]) for name in names}


class FieldCounts(NamedTuple):
    """What one field adds to the counts."""

    stated: tuple[int, int, int]
    abstained: tuple[int, int, int]


_UNREADABLE = object()


def compare_field(wanted: Any, found: Any) -> FieldCounts:
    """Compare one field's value with the reference; None = null. Values are equal when their JSON is."""
    states, abstains = found is not None and found is not _UNREADABLE, found is None
    hit = states and wanted is not None and _same(found, wanted)
    return FieldCounts(
        stated=(int(hit), int(states and not hit), int(wanted is not None and not hit)),
        abstained=(int(abstains and wanted is None), int(abstains and wanted is not None), int(wanted is None and not abstains)),
    )


def is_exact(answer: str, reference: str, schema: dict[str, Any] | None) -> bool:
    """Return whether `answer` says what `reference` says: equal as JSON where there is a schema, else equal text, trimmed."""
    return canonical(answer) == canonical(reference) if schema else answer.strip() == reference.strip()


def is_valid(answer: str, schema: dict[str, Any] | None) -> bool | None:
    """Return whether `answer` fits `schema`; None without one."""
    return run_checks([JsonSchema(type="json_schema")], CheckInput(answer, schema=schema))[0].passed if schema else None


def field_scores(counts: Array) -> dict[str, float | None]:
    """Return precision, recall and F1 of one field from its (n, 3) counts; None where nothing was stated or wanted."""
    tp, fp, fn = counts.sum(axis=0)
    found = {"precision": divide(tp, tp + fp), "recall": divide(tp, tp + fn), "f1": divide(2 * tp, 2 * tp + fp + fn)}
    return {name: None if np.isnan(value) else round(float(value), 6) for name, value in found.items()}


def macro_f1(fields: Mapping[str, Array]) -> Measure | None:
    """Mean over the fields of F1 = 2 tp / (2 tp + fp + fn); a field that occurs nowhere is left out. None without fields."""
    if not fields:
        return None
    counts = np.concatenate(list(fields.values()), axis=1)

    def of(sums: Array) -> Array:
        by_field = sums.reshape(*sums.shape[:-1], len(fields), 3)
        twice = 2 * by_field[..., TP]
        scores = divide(twice, twice + by_field[..., FP] + by_field[..., FN])
        known = ~np.isnan(scores)
        return divide(np.nansum(scores, axis=-1), known.sum(axis=-1))

    return Measure(counts, of, len(counts))


def precision(counts: Array) -> Measure:
    """tp / (tp + fp); counts over what was said."""
    return Measure(counts, lambda sums: divide(sums[..., TP], sums[..., TP] + sums[..., FP]), int(counts[:, [TP, FP]].sum()))


def recall(counts: Array) -> Measure:
    """tp / (tp + fn); counts over what should have been said."""
    return Measure(counts, lambda sums: divide(sums[..., TP], sums[..., TP] + sums[..., FN]), int(counts[:, [TP, FN]].sum()))


def passing(passes: Array, rows: Array | None = None) -> Measure:
    """Share of 1 among `rows`, those left out where it is nan: the answers that fit their schema, or pass a check."""
    known = ~np.isnan(passes)
    return mean(np.nan_to_num(passes), known if rows is None else known & rows)


def _keys(unit: TaskUnit) -> Sequence[str]:
    return list((unit.output.json_schema or {}).get("properties", {}))


def _field_names(units: Mapping[str, TaskUnit]) -> list[str]:
    return [_label(unit, key, units) for unit in units.values() for key in _keys(unit)]


def _label(unit: TaskUnit, key: str, units: Mapping[str, TaskUnit]) -> str:
    return key if len(units) == 1 else f"{unit.name}.{key}"


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _numbers(table: pa.Table, column: str) -> Array:
    return np.array([np.nan if value is None else float(value) for value in table[column].to_pylist()])
