"""Latency, and money for right results."""

import numpy as np
import pytest

from engine.contract.budget import Price, TokenPrice
from engine.evaluation.cost import Served, cost, cost_alone, latency, price_of, spent, with_corrections
from engine.records.estimate import Estimate
from engine.records.report import Latency

PRICE = Price(per_machine_hour=3.6, teachers={"t": TokenPrice(per_1m_in=100, per_1m_out=1000)})  # a machine second costs 0.001


def served(right: list[float], *, confidence: list[float], seconds: float | None, sound: list[float] | None = None) -> Served:
    n = len(right)
    tokens = np.array([[100.0, 10.0]] * n)
    return Served(np.array(right), np.array(sound or [1.0] * n), np.array(confidence), seconds, tokens)


TEACHER = served([1, 1, 1, 0], confidence=[0.9] * 4, seconds=2.0)
TEACHER_PRICE = price_of(TEACHER, PRICE, teacher="t")


def test_price_of_a_teacher_counts_its_tokens_and_of_a_student_its_seconds() -> None:
    assert TEACHER_PRICE is not None
    assert TEACHER_PRICE.tolist() == pytest.approx([0.002 + 0.01 + 0.01] * 4)
    student = price_of(TEACHER, PRICE, teacher=None)
    assert student is not None
    assert student.tolist() == pytest.approx([0.002] * 4)


def test_cost_counts_the_fallback_to_the_teacher_and_what_it_gets_right() -> None:
    student = served([1, 0, 1, 0], confidence=[0.9, 0.4, 0.8, 0.1], seconds=0.5)
    measured = cost(spent(student, price_of(student, PRICE, teacher=None), TEACHER, TEACHER_PRICE, answer_above=0.5))
    # rows 2 and 4 fall back; the teacher gets 2 right and 4 wrong: 3 accepted for 4 * 0.0005 + 2 * 0.022
    assert measured.fallback_share == 0.5
    assert measured.answered_share == 0.5
    assert measured.accepted_share == 0.75
    assert measured.per_1000_accepted == pytest.approx(1000 * (0.002 + 0.044) / 3, abs=1e-6)


def test_cost_sends_an_answer_that_did_not_end_to_the_teacher() -> None:
    student = served([1, 0, 1, 1], confidence=[0.9] * 4, seconds=0.5, sound=[1, 0, 1, 1])
    measured = cost(spent(student, price_of(student, PRICE, teacher=None), TEACHER, TEACHER_PRICE, answer_above=0.5))
    assert (measured.fallback_share, measured.accepted_share) == (0.25, 1.0)


def test_cost_of_a_model_without_confidence_never_falls_back() -> None:
    rules = served([1, 0, 0, 0], confidence=[np.nan] * 4, seconds=0.1)
    measured = cost(spent(rules, price_of(rules, PRICE, teacher=None), TEACHER, TEACHER_PRICE, answer_above=0.9))
    assert (measured.fallback_share, measured.accepted_share) == (0.0, 0.25)
    assert measured.per_1000_accepted == pytest.approx(0.4)


def test_cost_counts_the_correction_of_every_answer_that_is_not_right() -> None:
    student = served([1, 0, 1, 0], confidence=[0.9, 0.9, 0.8, 0.1], seconds=0.5)  # the last falls back, and the teacher errs, too
    requests = spent(student, price_of(student, PRICE, teacher=None), TEACHER, TEACHER_PRICE, answer_above=0.5)
    without, corrected = cost(requests), cost(with_corrections(requests, 0.25))
    assert without.per_1000_accepted is not None
    assert corrected.per_1000_accepted == pytest.approx(without.per_1000_accepted + 1000 * 2 * 0.25 / 2)
    assert cost_alone(TEACHER, TEACHER_PRICE, 0.3).per_1000_accepted == pytest.approx(1000 * (4 * 0.022 + 0.3) / 3, abs=1e-3)
    assert "per_correction" not in Price().model_dump() and Price(per_correction=1).model_dump()["per_correction"] == 1


def test_cost_is_null_when_nothing_is_right_or_nothing_was_timed() -> None:
    wrong = served([0, 0, 0, 0], confidence=[0.9] * 4, seconds=0.1)
    price = price_of(wrong, PRICE, teacher=None)
    assert cost(spent(wrong, price, TEACHER, TEACHER_PRICE, answer_above=0.5)).per_1000_accepted is None
    untimed = served([1, 1, 1, 1], confidence=[0.9] * 4, seconds=None)
    assert price_of(untimed, PRICE, teacher=None) is None
    assert cost(spent(untimed, None, TEACHER, TEACHER_PRICE, answer_above=0.5)).per_1000_accepted is None


def test_cost_of_the_teacher_alone_counts_what_it_gets_wrong() -> None:
    assert cost_alone(TEACHER, TEACHER_PRICE).per_1000_accepted == pytest.approx(1000 * 0.088 / 3, abs=1e-6)


def test_latency_gives_percentiles_in_milliseconds() -> None:
    measured = latency([index / 1000 for index in range(1, 102)])  # 1 ms to 101 ms
    assert measured is not None and (measured.p50_ms, measured.p95_ms, measured.n) == (51.0, 96.0, 101)
    assert measured.p95 == Estimate(value=96.0, low=91.0, high=101.0, n=101)  # the 91st and the last of them
    few = latency([index / 1000 for index in range(1, 17)])
    assert few is not None and few.p95 is not None and few.p95.high > 16  # beyond what was seen: 16 bound no percentile
    assert few.method == "log-normal tolerance bound of 16 values"
    alone = latency([0.002])
    assert alone == Latency(p50_ms=2.0, p95_ms=2.0, n=1)
    assert latency([]) is None
