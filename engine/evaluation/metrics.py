"""Compares answers with their references, and computes the metrics of a model from all of its answers."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.checks import CheckInput, parse, run_checks
from engine.contract.checks import JsonSchema
from engine.contract.specialist import TaskUnit
from engine.records.report import FieldScores
from engine.rows import Row
from engine.stats.bootstrap import Array, Measure, divide, mean

TP, FP, FN = 0, 1, 2


class Grades(NamedTuple):
    """One model's answers against the references, in the holdout's order. Counts are true +, false +, false -."""

    exact: Array  # (n,) 1 = right as a whole
    valid: Array  # (n,) 1 = fits the JSON schema; nan where the task unit has no schema
    confidence: Array  # (n,) nan where the model gives none
    fields: dict[str, Array]  # field -> (n, 3) counts of stated values
    abstained: Array  # (n, 3) counts of nulls over all fields
    checks: dict[str, Array]  # check -> (n,) 1 = passes; nan where the check does not apply


def grade(predictions: pa.Table, units: Mapping[str, TaskUnit]) -> Grades:
    """Return the grades of PREDICTION rows; `valid` and `exact` are taken from the rows.

    A value that differs from the reference is both a false positive and a false negative (slot error rate: Makhoul et al.,
    "Performance measures for information extraction", 1999). An answer that is not a JSON object states no value and abstains from
    no field. A field that an object omits is null.
    """
    rows = predictions.select(["task_unit", "reference", "answer"]).to_pylist()
    fields = {name: np.zeros((len(rows), 3)) for name in _field_names(units)}
    abstained = np.zeros((len(rows), 3))
    for index, row in enumerate(rows):
        unit = units[row["task_unit"]]
        expected, actual = parse(row["reference"]), parse(row["answer"])
        for key in _keys(unit):
            value = actual.get(key) if isinstance(actual, dict) else _UNREADABLE
            counts = compare_field(expected.get(key) if isinstance(expected, dict) else None, value)
            fields[_label(unit, key, units)][index] += counts.stated
            if unit.on_missing == "abstain":
                abstained[index] += counts.abstained
    exact, valid, confidence = (_numbers(predictions, column) for column in ("exact", "valid", "confidence"))
    return Grades(exact, valid, confidence, fields, abstained, _passes(predictions))


def _passes(predictions: pa.Table) -> dict[str, Array]:
    rows = [{check["check"]: check["passed"] for check in checks or ()} for checks in predictions["checks"].to_pylist()]
    names = sorted({name for row in rows for name in row})
    return {name: np.array([float(row.get(name, np.nan)) for row in rows]) for name in names}


class FieldCounts(NamedTuple):
    """Counts of one field of one answer: true positive, false positive, false negative."""

    stated: tuple[int, int, int]
    abstained: tuple[int, int, int]


_UNREADABLE = object()


def compare_field(expected: object, actual: object) -> FieldCounts:
    """Return the counts of one field; None = null. Values are equal if their JSON is equal."""
    states, abstains = actual is not None and actual is not _UNREADABLE, actual is None
    hit = states and expected is not None and _same(actual, expected)
    return FieldCounts(
        stated=(int(hit), int(states and not hit), int(expected is not None and not hit)),
        abstained=(
            int(abstains and expected is None),
            int(abstains and expected is not None),
            int(expected is None and not abstains),
        ),
    )


def is_valid(answer: str, schema: Row | None) -> bool | None:
    """Return whether `answer` fits `schema`; None without a schema."""
    return run_checks([JsonSchema(type="json_schema")], CheckInput(answer, schema=schema))[0].passed if schema else None


def field_scores(counts: Array) -> FieldScores:
    """Return precision, recall and F1 of one field from its (n, 3) counts; None where nothing was stated or expected."""
    tp, fp, fn = counts.sum(axis=0)
    scores = {"precision": divide(tp, tp + fp), "recall": divide(tp, tp + fn), "f1": divide(2 * tp, 2 * tp + fp + fn)}
    return FieldScores.model_validate({name: None if np.isnan(x) else round(float(x), 6) for name, x in scores.items()})


def macro_f1(fields: Mapping[str, Array]) -> Measure | None:
    """Return the mean over fields of F1 = 2 tp / (2 tp + fp + fn), without fields that never occur. None without fields."""
    if not fields:
        return None
    counts = np.concatenate(list(fields.values()), axis=1)

    def macro(sums: Array) -> Array:
        by_field = sums.reshape(*sums.shape[:-1], len(fields), 3)
        twice = 2 * by_field[..., TP]
        scores = divide(twice, twice + by_field[..., FP] + by_field[..., FN])
        defined = ~np.isnan(scores)
        return divide(np.nansum(scores, axis=-1), defined.sum(axis=-1))

    return Measure(counts, macro, len(counts))


def precision(counts: Array) -> Measure:
    """Return tp / (tp + fp) of (n, 3) counts; its `n` is tp + fp."""
    return Measure(counts, lambda sums: divide(sums[..., TP], sums[..., TP] + sums[..., FP]), int(counts[:, [TP, FP]].sum()))


def recall(counts: Array) -> Measure:
    """Return tp / (tp + fn) of (n, 3) counts; its `n` is tp + fn."""
    return Measure(counts, lambda sums: divide(sums[..., TP], sums[..., TP] + sums[..., FN]), int(counts[:, [TP, FN]].sum()))


def pass_rate(passes: Array, rows: Array | None = None) -> Measure:
    """Return the share of 1 in `passes`, (n,), over the mask `rows` or all rows; nan is left out."""
    defined = ~np.isnan(passes)
    return mean(np.nan_to_num(passes), defined if rows is None else defined & rows)


def _keys(unit: TaskUnit) -> Sequence[str]:
    return list((unit.output.json_schema or {}).get("properties", {}))


def _field_names(units: Mapping[str, TaskUnit]) -> list[str]:
    return [_label(unit, key, units) for unit in units.values() for key in _keys(unit)]


def _label(unit: TaskUnit, key: str, units: Mapping[str, TaskUnit]) -> str:
    return key if len(units) == 1 else f"{unit.name}.{key}"


def _same(value: object, other: object) -> bool:
    return json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)


def _numbers(table: pa.Table, column: str) -> Array:
    return np.array([np.nan if value is None else float(value) for value in table[column].to_pylist()])
