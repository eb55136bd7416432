"""Numbers over seeds and prompts, agreement beyond chance, and shares of clustered rows, against simulation and known values."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from engine.stats.agreement import answer_agreement, clustered, clustered_share, error_consistency
from engine.stats.bootstrap import Resamples
from engine.stats.crossed import by_cluster, crossed, crossed_mean, pooled
from engine.stats.intervals import wilson


def cells(rng, *, seeds, groups=40, size=3, of_seed=0.05):
    """Differences of two students that learnt equally well: seeds, clusters and single prompts all vary."""
    chance = 0.6 + rng.normal(0, 0.25, (1, groups, 1)) + rng.normal(0, 0.1, (1, groups, size))
    models = [rng.random((seeds, groups, size)) < chance + rng.normal(0, of_seed, (seeds, 1, 1)) for _ in range(2)]
    return (models[0].astype(float) - models[1]).reshape(seeds, -1)


CLUSTERS = np.repeat([f"g{index}" for index in range(40)], 3).tolist()


@pytest.mark.parametrize("seeds", [3, 6])
def test_nothing_is_found_where_nothing_is_as_often_as_the_level_says(seeds):
    rng, found = np.random.default_rng(seeds), 0
    for _ in range(400):
        found += crossed_mean(cells(rng, seeds=seeds), CLUSTERS).p_value < 0.05
    assert found <= 36  # 20 are expected, 36 are four standard deviations above


def test_pooled_variance_of_trainings_makes_two_seeds_usable():
    rng, alone, together = np.random.default_rng(0), 0, 0
    for _ in range(300):
        sets = [cells(rng, seeds=2, of_seed=0.15) for _ in range(8)]
        alone += crossed_mean(sets[0], CLUSTERS).p_value < 0.01
        together += crossed_mean(sets[0], CLUSTERS, pooled(sets)).p_value < 0.01
    assert together <= 8 < alone  # 3 are expected


def test_interval_and_p_value_agree():
    found = crossed_mean(cells(np.random.default_rng(5), seeds=4) + 0.05, CLUSTERS)
    edge = found.interval(1 - found.p_value)
    assert min(abs(edge.low), abs(edge.high)) < 1e-6 and found.interval(0.5).high < found.interval(0.99).high


def test_variance_of_one_seed_is_that_over_clusters():
    rows = np.random.default_rng(1).random(60)
    found = crossed_mean(rows[None, :], [""] * 60)
    assert found.variance == pytest.approx(rows.var(ddof=1) / 60) and found.freedom == 59
    doubled = crossed_mean(np.repeat(rows, 2)[None, :], np.repeat(np.arange(60).astype(str), 2).tolist())
    assert doubled.variance == pytest.approx(found.variance)  # copies of a row tell nothing new
    assert crossed_mean(rows[None, :4], [""] * 4) is None and pooled([rows[None, :]]) is None
    assert crossed(0.0, np.zeros((2, 9)), [""] * 9).p_value == 1


def test_rows_without_a_label_are_clusters_by_themselves():
    assert by_cluster(np.array([[1.0, 2, 4, 8]]), ["a", "", "a", None]).tolist() == [[5, 2, 8]]


def test_error_consistency_is_cohens_kappa_of_being_right():
    rng = np.random.default_rng(2)
    right, other = (rng.random((2, 300)) < [[0.7], [0.6]]).astype(float)
    assert error_consistency(right, other).point == pytest.approx(cohen_kappa_score(right, other))
    assert error_consistency(right, right).point == 1 and np.isnan(error_consistency(np.ones(9), np.ones(9)).point)


def test_answer_agreement_counts_equal_wrong_answers_beyond_chance():
    right, other = np.array([1.0, 1, 1, 0, 0, 0]), np.array([1.0, 1, 0, 1, 0, 0])
    same = np.array([1.0, 1, 0, 0, 1, 0])
    # agreement 3 / 6; by chance 1 / 4 for right answers, and for wrong ones 1 / 4 over two other options
    assert answer_agreement(right, other, same).point == pytest.approx((0.5 - 0.25) / 0.75)
    assert answer_agreement(right, other, same, options=3).point == pytest.approx((0.5 - 0.375) / 0.625)


def test_independent_models_have_no_agreement_and_clusters_widen_the_interval():
    rng = np.random.default_rng(3)
    one, other = (np.repeat(rng.random(80) < 0.7, 3).astype(float) for _ in range(2))
    labels = np.repeat([f"g{index}" for index in range(80)], 3).tolist()
    rows = error_consistency(one, other)
    groups = clustered(rows, labels)
    assert groups.columns.shape[0] == 80 and groups.point == pytest.approx(rows.point)
    wide = Resamples(80, times=300, level=0.95, seed=0).estimate(groups)
    narrow = Resamples(240, times=300, level=0.95, seed=0).estimate(rows)
    assert wide.low < 0 < wide.high and wide.high - wide.low > 1.3 * (narrow.high - narrow.low)


def test_share_of_clustered_rows_has_the_interval_of_its_effective_size():
    hits = np.array([1.0] * 12 + [0.0] * 28)
    found = clustered_share(hits, [""] * 40, level=0.95)
    assert (found.low, found.high) == pytest.approx(wilson(12, 40), abs=0.01)
    tied = clustered_share(np.repeat(hits, 5), np.repeat(np.arange(40).astype(str), 5).tolist(), level=0.95)
    assert (tied.low, tied.high, tied.n) == (pytest.approx(found.low, abs=0.01), pytest.approx(found.high, abs=0.01), 200)
    nothing = clustered_share(np.zeros(30), [f"g{index // 3}" for index in range(30)], level=0.95)
    assert nothing.low == 0 and nothing.high == pytest.approx(wilson(0, 10)[1], abs=1e-6)  # ten clusters without a hit
    assert clustered_share(np.zeros(0), [], level=0.95) is None
