"""Admission: how long a request would wait, and the caution with which the next one is admitted."""

import pytest

from engine.serving.pace import LEAST_CAUTION, MOST_CAUTION, Pace


def test_shares_of_the_steps_give_the_time_between_two_completions_whatever_the_batch() -> None:
    pace = Pace()
    pace.resume(100.0)  # idle before
    alone = pace.step(102.0) + pace.step(104.0)
    assert alone == 4.0
    pace.completed(alone)
    assert pace.expected(0) == 4.0 and pace.expected(9) == 40.0
    for _ in range(100):  # eight run together and take 8 s each: one a second
        pace.completed(8 / 8)
    assert pace.expected(0) == pytest.approx(1.0, abs=0.01) and pace.retry_after(12) == 13


def test_a_request_is_refused_if_it_would_be_late_and_one_alone_is_tried() -> None:
    pace = Pace()
    assert not pace.is_late(1000, 1.0)  # nothing is known yet
    pace.completed(2.0)
    assert not pace.is_late(0, 1.0) and pace.is_late(1, 1.0)
    assert not pace.is_late(3, 10.0) and pace.is_late(4, 10.0)  # 8 s of 10 s, 10 s of 10 s


def test_what_was_given_up_or_broken_counts_as_at_least_as_slow() -> None:
    pace = Pace()
    pace.completed(2.0)
    pace.given_up(1.0)
    assert pace.seconds == 2.0
    pace.given_up(12.0)
    assert pace.seconds == pytest.approx(3.0)
    pace.broken(13.0)
    assert pace.seconds == pytest.approx(4.0) and pace.caution > LEAST_CAUTION


@pytest.mark.parametrize(("kept", "ends"), [(10, MOST_CAUTION), (100, LEAST_CAUTION)])
def test_caution_follows_the_share_of_broken_promises(kept: int, ends: float) -> None:
    pace = Pace()
    pace.caution = 2.0
    for _ in range(200):
        for _ in range(kept):
            pace.completed(1.0)
        pace.broken()
    assert pace.caution == pytest.approx(ends, rel=0.1)


def test_retry_after_is_whole_seconds_and_no_more_than_a_minute() -> None:
    pace = Pace()
    pace.completed(0.001)
    assert pace.retry_after(1) == 1
    pace.completed(1000.0)
    assert pace.retry_after(5) == 60
