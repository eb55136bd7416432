"""Numbers of the report against counts done by hand."""

import json

import numpy as np
import pyarrow as pa
import pytest

from engine.checks import is_exact
from engine.contract.specialist import TaskUnit
from engine.evaluation.metrics import (
    compare_field,
    field_scores,
    grade,
    is_valid,
    macro_f1,
    pass_rate,
    precision,
    recall,
)
from engine.rows import PREDICTION, from_rows
from engine.stats.bootstrap import Resamples, mean

SCHEMA = {
    "type": "object",
    "properties": {"number": {"type": ["string", "null"]}, "item": {"type": ["string", "null"]}},
    "required": ["number", "item"],
    "additionalProperties": False,
}
UNIT = TaskUnit.model_validate({"name": "form", "kind": "extraction", "output": {"json_schema": SCHEMA}})


def form(number: str | None, item: str | None) -> str:
    return json.dumps({"number": number, "item": item})


def predicted(*pairs: tuple[str, str]) -> pa.Table:
    """PREDICTION rows of (reference, answer)."""
    rows = [
        {"task_unit": "form", "reference": ref, "answer": ans, "exact": is_exact(ans, ref, SCHEMA), "valid": is_valid(ans, SCHEMA)}
        for ref, ans in pairs
    ]
    return from_rows(rows, PREDICTION)


FOUR = predicted(
    (form("1", "pen"), form("1", "pen")),  # right
    (form("2", None), form("3", None)),  # wrong number; rightly abstains from the item
    (form(None, "cup"), form("9", None)),  # invents a number; wrongly abstains from the item
    (form(None, "mat"), "no idea"),  # unreadable: states nothing, abstains from nothing
)


@pytest.mark.parametrize(
    ("answer", "reference", "schema", "exact"),
    [
        ('{"item":"pen","number":null}', '{"number": null, "item": "pen"}', SCHEMA, True),  # order and blanks do not matter
        ('{"number":"","item":"pen"}', '{"number":null,"item":"pen"}', SCHEMA, False),  # empty is not null
        ('{"number":"null","item":"pen"}', '{"number":null,"item":"pen"}', SCHEMA, False),
        ('{"number":1,"item":"pen"}', '{"number":"1","item":"pen"}', SCHEMA, False),
        (" yes\n", "yes", None, True),
        ("1.0", "1", None, False),  # free text is compared as text
        ("Yes", "yes", None, False),
    ],
)
def test_is_exact_compares_meaning_not_spelling(answer: str, reference: str, schema: dict | None, exact: bool) -> None:
    assert is_exact(answer, reference, schema) is exact


def test_is_valid_knows_missing_keys_wrong_types_and_no_schema() -> None:
    assert is_valid(form(None, "pen"), SCHEMA) is True
    assert is_valid('{"number":"1"}', SCHEMA) is False
    assert is_valid('{"number":1,"item":"pen"}', SCHEMA) is False
    assert is_valid("{", SCHEMA) is False
    assert is_valid("anything", None) is None


def test_field_scores_of_four_answers_are_those_counted_by_hand() -> None:
    fields = grade(FOUR, {"form": UNIT}).fields
    # number: "1" is a hit; "3" is a false + and a miss of "2"; "9" is a false +
    assert fields["number"].sum(axis=0).tolist() == [1, 2, 1]
    assert field_scores(fields["number"]).model_dump() == {"precision": pytest.approx(1 / 3), "recall": 0.5, "f1": 0.4}
    # item: "pen" is a hit; "cup" and "mat" are missed
    assert field_scores(fields["item"]).model_dump() == {"precision": 1.0, "recall": pytest.approx(1 / 3), "f1": 0.5}
    macro = macro_f1(fields)
    assert macro is not None
    assert float(macro.of(macro.columns.sum(axis=0))) == pytest.approx((0.4 + 0.5) / 2)


def test_abstention_counts_nulls_that_should_and_should_not_be() -> None:
    counts = grade(FOUR, {"form": UNIT}).abstained
    # nulls said: item of row 2 (right), item of row 3 (wrong); nulls wanted: item of row 2, number of rows 3 and 4
    assert counts.sum(axis=0).tolist() == [1, 1, 2]
    resamples = Resamples(4, times=20, level=0.95, seed=0)
    stated, expected = resamples.estimate(precision(counts)), resamples.estimate(recall(counts))
    assert stated is not None and (stated.value, stated.n) == (0.5, 2)
    assert expected is not None and (expected.value, expected.n) == (pytest.approx(1 / 3, abs=1e-6), 3)


def test_abstention_of_a_unit_that_should_guess_is_not_counted() -> None:
    guess = UNIT.model_copy(update={"on_missing": "guess"})
    assert grade(FOUR, {"form": guess}).abstained.sum() == 0


def test_compare_field_takes_a_left_out_field_for_null() -> None:
    table = predicted((form(None, "pen"), '{"item":"pen"}'))
    assert grade(table, {"form": UNIT}).abstained.tolist() == [[1, 0, 0]]
    assert compare_field(None, None).abstained == (1, 0, 0)
    assert compare_field(True, 1).stated == (0, 1, 1)  # equal in Python, not in JSON


def test_grade_of_two_units_names_fields_by_unit() -> None:
    other = UNIT.model_copy(update={"name": "note"})
    assert set(grade(FOUR, {"form": UNIT, "note": other}).fields) == {"form.number", "form.item", "note.number", "note.item"}


def test_schema_validity_leaves_out_rows_without_a_schema() -> None:
    measure = pass_rate(np.array([1.0, 0.0, np.nan, 1.0]))
    assert measure.n == 3
    assert float(measure.of(measure.columns.sum(axis=0))) == pytest.approx(2 / 3)


def test_macro_f1_without_fields_is_none() -> None:
    assert macro_f1({}) is None


def test_mean_among_no_rows_is_undefined() -> None:
    assert Resamples(3, times=10, level=0.95, seed=0).estimate(mean(np.ones(3), np.zeros(3, dtype=bool))) is None
