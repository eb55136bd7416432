"""Bootstrap, paired comparison and calibration."""

import numpy as np
import pytest

from engine.stats.bootstrap import Measure, Resamples, mean
from engine.stats.calibration import bin_of, bins, brier, ece
from engine.stats.paired import difference, retention


def point(measure: Measure) -> float:
    return float(measure.of(measure.columns.sum(axis=0)))


def rights(right: int, rows: int) -> np.ndarray:
    return np.array([1.0] * right + [0.0] * (rows - right))


def test_interval_of_a_share_is_that_of_the_binomial() -> None:
    # 80 of 100: the standard error is sqrt(.8 * .2 / 100) = 0.04, so 95 % of the draws lie within about 0.078
    found = Resamples(100, times=4000, level=0.95, seed=1).value(mean(rights(80, 100)))
    assert found is not None
    assert found["value"] == 0.8
    assert found["low"] == pytest.approx(0.72, abs=0.015)
    assert found["high"] == pytest.approx(0.88, abs=0.015)


def test_interval_is_wider_at_a_higher_level_and_equal_for_an_equal_seed() -> None:
    measure = mean(rights(30, 50))
    narrow, wide = (Resamples(50, times=2000, level=level, seed=3).value(measure) for level in (0.5, 0.99))
    assert narrow and wide
    assert wide["low"] < narrow["low"] < 0.6 < narrow["high"] < wide["high"]
    assert Resamples(50, times=2000, level=0.5, seed=3).value(measure) == narrow
    assert Resamples(50, times=2000, level=0.99, seed=4).value(measure) != wide


def test_resamples_draw_as_many_rows_as_there_are() -> None:
    resamples = Resamples(7, times=250, level=0.95, seed=0)
    assert resamples.counts.shape == (250, 7)
    assert (resamples.counts.sum(axis=1) == 7).all()


def test_difference_is_paired() -> None:
    # Both models fail on the same rows but one: unpaired, the interval would be about 0.25 wide.
    one, other = rights(50, 100), rights(51, 100)
    found = Resamples(100, times=2000, level=0.95, seed=0).value(difference(one, other))
    assert found is not None
    assert found["value"] == pytest.approx(-0.01)
    assert -0.05 < found["low"] <= found["high"] == 0.0


def test_retention_is_the_ratio_and_may_pass_one() -> None:
    assert point(retention(rights(45, 100), rights(60, 100))) == 0.75
    assert point(retention(rights(6, 10), rights(5, 10))) == pytest.approx(1.2)


def test_retention_among_unseen_rows_counts_those_alone() -> None:
    student, teacher = np.array([1.0, 0, 1, 1]), np.array([1.0, 1, 1, 0])
    unseen = np.array([True, True, False, False])
    measure = retention(student, teacher, unseen)
    assert (point(measure), measure.n) == (0.5, 2)


def test_retention_of_a_teacher_that_gets_nothing_is_undefined() -> None:
    assert Resamples(4, times=50, level=0.95, seed=0).value(retention(np.ones(4), np.zeros(4))) is None


def test_ece_and_brier_of_four_answers_are_those_computed_by_hand() -> None:
    confidence, right = np.array([0.95, 0.85, 0.82, 0.15]), np.array([1.0, 1.0, 0.0, 0.0])
    # bins: (.9, 1] gap |1 - .95| = .05 of 1; (.8, .9] gap |.5 - .835| = .335 of 2; (.1, .2] gap .15 of 1
    assert point(ece(confidence, right)) == pytest.approx((0.05 + 2 * 0.335 + 0.15) / 4)
    assert point(brier(confidence, right)) == pytest.approx((0.0025 + 0.0225 + 0.6724 + 0.0225) / 4)


def test_calibration_leaves_out_answers_without_a_confidence() -> None:
    confidence, right = np.array([np.nan, 0.7, np.nan]), np.array([1.0, 1.0, 0.0])
    assert (point(ece(confidence, right)), ece(confidence, right).n) == (pytest.approx(0.3), 1)
    assert point(brier(confidence, right)) == pytest.approx(0.09)
    assert np.isnan(point(ece(confidence[:1], right[:1])))
    assert np.isnan(point(brier(confidence[:1], right[:1])))


def test_bins_are_open_below_and_closed_above() -> None:
    assert bin_of(np.array([0.0, 0.1, 0.1001, 0.5, 1.0])).tolist() == [0, 0, 1, 4, 9]
    found = bins(np.array([0.75, 0.79, np.nan]), np.array([1.0, 0.0, 1.0]))
    assert [one["n"] for one in found] == [0, 0, 0, 0, 0, 0, 0, 2, 0, 0]
    assert found[7] == {"low": 0.7, "high": 0.8, "n": 2, "confidence": 0.77, "accuracy": 0.5}
    assert found[0]["confidence"] is None
