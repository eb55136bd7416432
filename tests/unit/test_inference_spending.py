"""What an accepted answer cost, by hand."""

import pyarrow as pa
import pytest

from engine.contract.budget import Price, TokenPrice
from engine.inference.spending import TeacherTotals, costs, picked, teacher_totals
from engine.rows import CANDIDATE, PICKED, from_rows

ROWS = [
    {"teacher": "a", "pool": "train", "finish_reason": "stop", "tokens_in": 100, "tokens_out": 10, "seconds": 1.0},
    {"teacher": "a", "pool": "refusal", "finish_reason": "stop", "tokens_in": 100, "tokens_out": 20, "seconds": 1.0},
    {"teacher": "a", "pool": "failure", "finish_reason": "length", "tokens_in": 100, "tokens_out": 70, "seconds": 2.0},
    {"teacher": "a", "pool": "failure", "finish_reason": "too_long", "tokens_in": 9999, "tokens_out": 0, "seconds": 0.0},
    {"teacher": "a", "pool": "failure", "finish_reason": "budget_exhausted", "tokens_in": 0, "tokens_out": 0, "seconds": 0.0},
    {"teacher": "b", "pool": "hard", "finish_reason": "stop", "tokens_in": 50, "tokens_out": 5, "seconds": 4.0},
]
TOTALS = {
    "a": TeacherTotals(3, 300, 100, 4.0, accepted=2, budget_exhausted=1),
    "b": TeacherTotals(1, 50, 5, 4.0, accepted=0, budget_exhausted=0),
}
PRICE = Price(currency="EUR", per_machine_hour=3.6, tokens=TokenPrice(per_1m_in=10, per_1m_out=1000))


def metrics(**machine):
    return {"teachers": {name: {**one._asdict(), "machine_seconds": machine.get(name, 0.0)} for name, one in TOTALS.items()}}


def test_totals_count_what_was_paid_and_what_came_of_it():
    assert teacher_totals([from_rows(ROWS, CANDIDATE)]) == TOTALS


def test_totals_are_the_same_for_any_split_into_shards():
    whole = from_rows(ROWS, CANDIDATE)
    assert teacher_totals(whole.slice(n, 1) for n in (3, 5, 0, 4, 2, 1)) == TOTALS


def test_totals_of_no_rows_are_none():
    assert teacher_totals([]) == {} and teacher_totals([CANDIDATE.empty_table()]) == {} and picked([PICKED.empty_table()]) == {}


def test_picked_counts_examples_by_teacher():
    rows = [{"teacher": teacher, "dropped_by": why} for teacher, why in (("a", ""), ("a", "pool"), ("b", ""), ("a", ""))]
    table = from_rows(rows, PICKED)
    assert picked([table.slice(0, 1), table.slice(1)]) == {"a": 2, "b": 1}


def test_cost_of_an_accepted_answer_is_tokens_and_machine_over_accepted():
    first, second = costs(metrics(a=4.0), {"picked": {"a": 1}}, PRICE)
    # 300 * 10 / 1e6 + 100 * 1000 / 1e6 = 0.103, and 4 s of a machine at 0.001 a second
    assert first.money == pytest.approx(0.107) and first.money_per_accepted == pytest.approx(0.0535)
    assert (first.tokens_per_accepted, first.picked, first.budget_exhausted) == (200.0, 1, 1)
    assert second.picked == 0 and second.money == pytest.approx(0.0055)  # a server's seconds are none of ours


def test_cost_where_nothing_was_accepted_is_not_a_number_made_up():
    [_, none] = costs(metrics(), {}, PRICE)
    assert (none.tokens_per_accepted, none.money_per_accepted, none.picked) == (None, None, None)


def test_teacher_with_a_price_of_its_own_is_paid_by_it():
    price = PRICE.model_copy(update={"teachers": {"b": TokenPrice(per_1m_in=1_000_000)}})
    assert [cost.money for cost in costs(metrics(), {}, price)] == pytest.approx([0.103, 50.0])


def test_costs_of_an_unfinished_job_are_none():
    assert costs({}, {}, PRICE) == []


def test_sums_do_not_depend_on_chunks():
    table = pa.concat_tables([from_rows(ROWS[:2], CANDIDATE), from_rows(ROWS[2:], CANDIDATE)])
    assert teacher_totals([table]) == TOTALS
