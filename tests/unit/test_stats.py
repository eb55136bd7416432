"""Intervals, agreement with labels, bootstrap, paired comparison and calibration."""

import numpy as np
import pytest

from engine.records.estimate import ReliabilityBin
from engine.stats.bootstrap import Resamples, mean
from engine.stats.calibration import bin_of, brier, ece, ece_estimate, reliability_bins
from engine.stats.discrimination import cohen_kappa, roc_auc, roc_auc_of_histograms
from engine.stats.intervals import Moments, difference_of_means, difference_of_moments, proportion
from engine.stats.intervals import mean as mean_with_interval
from engine.stats.paired import difference, retention


def rights(right: int, rows: int) -> np.ndarray:
    return np.array([1.0] * right + [0.0] * (rows - right))


def test_interval_of_a_share_is_that_of_the_binomial() -> None:
    # 80 of 100: the standard error is sqrt(.8 * .2 / 100) = 0.04, so 95 % of the draws lie within about 0.078
    result = Resamples(100, times=4000, level=0.95, seed=1).estimate(mean(rights(80, 100)))
    assert result is not None
    assert result.value == 0.8
    assert result.low == pytest.approx(0.72, abs=0.015)
    assert result.high == pytest.approx(0.88, abs=0.015)


def test_interval_is_wider_at_a_higher_level_and_equal_for_an_equal_seed() -> None:
    measure = mean(rights(30, 50))
    narrow, wide = (Resamples(50, times=2000, level=level, seed=3).estimate(measure) for level in (0.5, 0.99))
    assert narrow and wide
    assert wide.low < narrow.low < 0.6 < narrow.high < wide.high
    assert Resamples(50, times=2000, level=0.5, seed=3).estimate(measure) == narrow
    assert Resamples(50, times=2000, level=0.99, seed=4).estimate(measure) != wide


def test_resamples_draw_as_many_rows_as_there_are() -> None:
    resamples = Resamples(7, times=250, level=0.95, seed=0)
    assert resamples.counts.shape == (250, 7)
    assert (resamples.counts.sum(axis=1) == 7).all()


def test_difference_is_paired() -> None:
    # Both models fail on the same rows but one: unpaired, the interval would be about 0.25 wide.
    one, other = rights(50, 100), rights(51, 100)
    result = Resamples(100, times=2000, level=0.95, seed=0).estimate(difference(one, other))
    assert result is not None
    assert result.value == pytest.approx(-0.01)
    assert -0.05 < result.low <= result.high == 0.0


def test_retention_is_the_ratio_and_may_pass_one() -> None:
    assert retention(rights(45, 100), rights(60, 100)).point == 0.75
    assert retention(rights(6, 10), rights(5, 10)).point == pytest.approx(1.2)


def test_retention_among_unseen_rows_counts_those_alone() -> None:
    student, teacher = np.array([1.0, 0, 1, 1]), np.array([1.0, 1, 1, 0])
    unseen = np.array([True, True, False, False])
    measure = retention(student, teacher, unseen)
    assert (measure.point, measure.n) == (0.5, 2)


def test_retention_of_a_teacher_that_gets_nothing_is_undefined() -> None:
    assert Resamples(4, times=50, level=0.95, seed=0).estimate(retention(np.ones(4), np.zeros(4))) is None


def test_ece_and_brier_of_four_answers_are_those_computed_by_hand() -> None:
    confidence, right = np.array([0.95, 0.85, 0.82, 0.15]), np.array([1.0, 1.0, 0.0, 0.0])
    # bins: (.9, 1] gap |1 - .95| = .05 of 1; (.8, .9] gap |.5 - .835| = .335 of 2; (.1, .2] gap .15 of 1
    assert ece(confidence, right).point == pytest.approx((0.05 + 2 * 0.335 + 0.15) / 4)
    assert brier(confidence, right).point == pytest.approx((0.0025 + 0.0225 + 0.6724 + 0.0225) / 4)


def test_calibration_leaves_out_answers_without_a_confidence() -> None:
    confidence, right = np.array([np.nan, 0.7, np.nan]), np.array([1.0, 1.0, 0.0])
    assert (ece(confidence, right).point, ece(confidence, right).n) == (pytest.approx(0.3), 1)
    assert brier(confidence, right).point == pytest.approx(0.09)
    assert np.isnan(ece(confidence[:1], right[:1]).point)
    assert np.isnan(brier(confidence[:1], right[:1]).point)


def test_bins_are_open_below_and_closed_above() -> None:
    assert bin_of(np.array([0.0, 0.1, 0.1001, 0.5, 1.0])).tolist() == [0, 0, 1, 4, 9]
    result = reliability_bins(np.array([0.75, 0.79, np.nan]), np.array([1.0, 0.0, 1.0]))
    assert [one.n for one in result] == [0, 0, 0, 0, 0, 0, 0, 2, 0, 0]
    assert result[7] == ReliabilityBin(low=0.7, high=0.8, n=2, confidence=0.77, accuracy=0.5)
    assert result[0].confidence is None


def test_kappa_and_its_interval_are_those_of_the_textbook():
    """Fleiss, Levin and Paik, 2003, table 18.1 and section 18.1: kappa 0.68, standard error 0.087."""
    result = cohen_kappa(np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]]))
    assert result.value == pytest.approx(0.676, abs=0.001)
    assert (result.high - result.low) / 2 / 1.96 == pytest.approx(0.087, abs=0.001)


def test_share_has_the_interval_of_wilson():
    result = proportion(81, 263)  # Newcombe, 1998, table I
    assert (result.low, result.high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))


def test_auc_is_that_of_scikit_learn_and_its_interval_holds():
    from sklearn.metrics import roc_auc_score

    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        right = np.arange(60) < 30
        scores = np.round(rng.normal(size=60) + right, 1)  # the true area is that of a distance of one
        result = roc_auc(scores, right)
        assert result.value == pytest.approx(roc_auc_score(right, scores), abs=1e-6)
        covered += result.low <= 0.7602 <= result.high
    assert covered / 200 == pytest.approx(0.95, abs=0.04)


def as_tuple(estimate):
    return (estimate.value, estimate.low, estimate.high, estimate.n)


def test_numbers_are_those_of_the_formulas_that_statsmodels_and_scipy_replaced():
    """Reports of earlier versions hold these numbers: a library with another convention must not change them."""
    rng = np.random.default_rng(11)
    ours, others = rng.normal(size=12), rng.normal(1, 3, size=7)
    scores = np.round(rng.random(30), 1)
    right = rng.random(30) < scores
    assert as_tuple(mean_with_interval(ours)) == (0.180528, -0.435718, 0.796775, 12)
    assert as_tuple(difference_of_means(ours, others)) == (-1.289624, -2.681817, 0.10257, 19)
    assert as_tuple(roc_auc(scores, right)) == (0.875556, 0.753092, 0.998019, 30)
    assert as_tuple(cohen_kappa(np.array([[8, 3], [2, 11]]))) == (0.577465, 0.249609, 0.90532, 24)
    assert as_tuple(proportion(7, 9, level=0.9)) == (0.777778, 0.503643, 0.923505, 9)
    assert as_tuple(ece_estimate(scores, right.astype(float))) == (0.16, 0.07325, 0.26, 30)


def test_too_few_values_have_no_interval():
    assert mean_with_interval(np.arange(4.0)) is None and difference_of_means(np.arange(9.0), np.arange(4.0)) is None
    assert proportion(0, 0) is None and cohen_kappa(np.zeros((2, 2), int)) is None
    assert roc_auc(np.arange(3.0), np.ones(3, bool)) is None and ece_estimate(np.empty(0), np.empty(0)) is None


def test_raters_who_use_one_label_agree_by_chance():
    assert as_tuple(cohen_kappa(np.array([[7, 0], [0, 0]]))) == (0.0, 0.0, 0.0, 7)


def test_constant_samples_have_an_interval_without_width():
    same = Moments(9, 0.4, 0.0)
    assert as_tuple(difference_of_moments(same, Moments(9, 0.1, 0.0))) == (0.3, 0.3, 0.3, 18)


def test_area_of_two_histograms_is_that_of_their_items():
    rng = np.random.default_rng(3)
    bins, right = rng.integers(0, 20, 300), rng.random(300) < 0.5
    result = roc_auc_of_histograms(*(np.bincount(bins[mask], minlength=20) for mask in (right, ~right)))
    assert result.value == roc_auc(bins.astype(float), right).value
    assert roc_auc_of_histograms(np.array([9, 0]), np.array([0, 4])) is None
