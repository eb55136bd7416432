"""Score tests, design effects, quantiles, sample sizes and multiple tests, against other libraries and direct maximisation."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, norm

from engine.stats import score
from engine.stats.bootstrap import Resamples, mean
from engine.stats.clusters import PRIOR_ICC, Clusters, design_effect, icc
from engine.stats.intervals import wilson
from engine.stats.multiple import benjamini_hochberg, holm, holm_steps
from engine.stats.power import Risks, detectable, detectable_share, further, needed, share_spread
from engine.stats.quantile import quantile

RISKS = Risks(0.05, 0.8)


def alone(rows: int) -> Clusters:
    return Clusters([""] * rows)


def table(mine: int, other: int, both: int, none: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two models with these counts."""
    counts = [(1, 0)] * mine + [(0, 1)] * other + [(1, 1)] * both + [(0, 0)] * none
    first, second = np.array(counts, dtype=np.float64).T
    return first, second


def most_likely(counts: tuple[int, int, int, int], by_mine: float, offset: float, slope: float) -> float:
    """The other model's own share that is most likely if mine = offset + slope * other, + by_mine * both; found by search."""
    mine, other, both, none = counts

    def loss(others: float) -> float:
        def inner(together: float) -> float:
            own = offset + slope * others + by_mine * together
            shares = np.array([own, others, together, 1 - own - others - together])
            if (shares < 0).any():
                return 1e9
            return -float(np.array([mine, other, both, none]) @ np.log(np.maximum(shares, 1e-300)))

        return minimize_scalar(inner, bounds=(0, 1), method="bounded", options={"xatol": 1e-10}).fun

    return float(minimize_scalar(loss, bounds=(1e-9, 0.6), method="bounded", options={"xatol": 1e-10}).x)


@pytest.mark.parametrize("counts", [(7, 3, 60, 30), (2, 9, 43, 20)])
@pytest.mark.parametrize("theta", [0.9, 1.1])
def test_variance_of_a_ratio_is_that_of_the_most_likely_table(counts: tuple[int, int, int, int], theta: float) -> None:
    pairs = score.Pairs.of(*table(*counts))
    other = most_likely(counts, theta - 1, 0.0, theta)  # mine + both = theta * (other + both)
    rows = sum(counts)

    def both(together: float) -> float:
        own = theta * other + (theta - 1) * together
        shares = np.array([own, other, together, 1 - own - other - together])
        return 1e9 if (shares < 0).any() else -float(np.array(counts) @ np.log(np.maximum(shares, 1e-300)))

    together = minimize_scalar(both, bounds=(0, 1), method="bounded", options={"xatol": 1e-10}).x
    own = theta * other + (theta - 1) * together
    assert float(score.ratio_variance(pairs, theta)) == pytest.approx(theta * (own + other), rel=1e-3) and rows == pairs.rows


@pytest.mark.parametrize("delta", [-0.08, 0.03])
def test_variance_of_a_difference_is_that_of_the_most_likely_table(delta: float) -> None:
    counts = (7, 3, 60, 30)
    other = most_likely(counts, 0.0, delta, 1.0)  # mine = other + delta
    found = float(score.difference_variance(score.Pairs.of(*table(*counts)), delta))
    assert found == pytest.approx(2 * other + delta - delta**2, rel=1e-3)


def test_difference_at_zero_is_mcnemars_test() -> None:
    assert float(score.difference_variance(score.Pairs.of(*table(7, 3, 60, 30)), 0.0)) == pytest.approx(0.1)
    above, below = score.mid_p(np.array(7), np.array(3))
    exact = binomtest(7, 10, alternative="greater").pvalue
    assert above == pytest.approx(exact - math.comb(10, 7) / 2**11) and above + below == pytest.approx(1)


def test_share_of_independent_rows_has_the_score_interval_with_students_quantile() -> None:
    hits = np.array([1.0] * 180 + [0.0] * 20)
    test = score.proportion(hits, alone(200), threshold=0.85, level=0.025)
    low, high = wilson(180, 200)
    assert float(test.low) == pytest.approx(low, abs=1e-3) and float(test.high) == pytest.approx(high, abs=1e-3)
    assert float(test.above) == pytest.approx(norm.sf(0.05 / math.sqrt(0.85 * 0.15 / 200)), abs=2e-3)


@pytest.mark.parametrize(("mine", "other"), [(12, 4), (0, 0), (3, 30)])
def test_interval_and_p_values_of_pairs_say_the_same(mine: int, other: int) -> None:
    first, second = table(mine, other, 100, 20)
    for test_of, limits in ((score.ratio, (0.7, 1.3)), (score.difference, (-0.2, 0.2))):
        for threshold in np.linspace(*limits, 9):
            if not threshold:
                continue  # McNemar's mid-p
            test = test_of(first, second, alone(len(first)), threshold=float(threshold), level=0.05)
            assert bool(test.above <= 0.05) == bool(threshold <= test.low), threshold
            assert bool(test.below <= 0.05) == bool(threshold >= test.high), threshold


def test_models_that_agree_everywhere_leave_some_doubt() -> None:
    first, second = table(0, 0, 100, 20)
    ratio = score.ratio(first, second, alone(120), threshold=0.99, level=0.05)
    assert float(ratio.value) == 1 and float(ratio.low) < 0.99 < 1 < float(ratio.high) and float(ratio.above) > 0.05
    never = score.ratio(np.zeros(9), np.zeros(9), alone(9), threshold=0.9, level=0.05)
    assert np.isnan(never.value)


def test_correlation_within_clusters_is_that_of_the_draw() -> None:
    draw = np.random.default_rng(0)
    rates = draw.beta(0.8 * 1.5, 0.2 * 1.5, 4000)  # correlation 1 / (1 + 1.5)
    hits = (draw.random((4000, 5)) < rates[:, None]).astype(float).ravel()
    clusters = Clusters(np.repeat(np.arange(4000), 5).tolist())
    assert float(icc(hits, clusters)) == pytest.approx(0.4, abs=0.03)
    assert float(design_effect(hits, clusters, 4000)) == pytest.approx(1 + 4 * 0.4, abs=0.15)
    assert float(design_effect(np.ones(len(hits)), clusters, 0)) == 1 + 4 * PRIOR_ICC  # nothing is known: assumed
    assert float(design_effect(hits, alone(len(hits)), 9)) == 1.0


def test_clusters_keep_empty_labels_apart_and_sum_rows() -> None:
    clusters = Clusters(["a", "", "b", "a", None, ""])
    assert (clusters.count, clusters.rows) == (5, 6)
    assert clusters.sums(np.arange(6.0)).tolist() == [3.0, 1.0, 2.0, 4.0, 5.0]
    assert clusters.mean_size == pytest.approx((4 + 1 + 1 + 1 + 1) / 6)
    assert clusters.take(np.array([1, 0, 1, 1, 0, 0], dtype=bool)).count == 2
    assert clusters.repeat(np.array([2, 0, 0, 1, 0, 3])).sizes.tolist() == [3, 3]


def test_bootstrap_draws_whole_clusters() -> None:
    hits = np.repeat([1.0, 0.0, 1.0, 1.0], 25)
    clusters = Clusters(np.repeat(np.arange(4), 25).tolist())
    rows = Resamples(100, times=500, level=0.95, seed=0).estimate(mean(hits))
    whole = Resamples(100, times=500, level=0.95, seed=0, clusters=clusters).estimate(mean(hits))
    assert rows is not None and whole is not None and rows.value == whole.value
    assert whole.high - whole.low > 3 * (rows.high - rows.low)


def test_quantile_is_proven_by_order_statistics_from_59_values_on() -> None:
    values = np.linspace(100, 200, 59)
    enough = quantile(values, 0.95, limit=201, level=0.05)
    assert (
        enough is not None and enough.method.startswith("order") and enough.below == pytest.approx(0.95**59) and enough.high == 200
    )
    few = quantile(values[:58], 0.95, limit=201, level=0.05)
    assert few is not None and few.method.startswith("log-normal") and few.low < few.value < few.high
    assert quantile(values[:1], 0.95, limit=201, level=0.05) is None
    draw = np.random.default_rng(3)
    bounds = [quantile(np.exp(draw.normal(size=20)), 0.95, limit=1, level=0.05) for _ in range(400)]
    covered = np.mean([bound is not None and bound.high >= math.exp(norm.ppf(0.95)) for bound in bounds])
    assert covered == pytest.approx(0.95, abs=0.035)


def test_sample_size_and_detectable_difference_are_each_others_inverse() -> None:
    wanted = needed(0.05, share_spread(0.6), share_spread(0.65), RISKS)
    assert wanted == 583
    assert detectable(583, share_spread(0.6), share_spread(0.65), RISKS) == pytest.approx(0.05, abs=1e-4)
    assert detectable_share(583, 0.6, RISKS) == pytest.approx(0.65, abs=1e-3)
    assert detectable_share(20, 0.98, RISKS) is None
    assert needed(0.0, 0.5, 0.5, RISKS) is None and needed(1e-6, 0.5, 0.5, RISKS) is None
    assert needed(5e-4, 0.5, 0.5, RISKS) is None, "six million prompts are no advice"
    assert further(0.05, (0.4, 0.4), 100, RISKS) == needed(0.05, 0.4, 0.4, RISKS) - 100
    assert further(0.5, (0.4, 0.4), 1000, RISKS) == 1


def test_holm_steps_down_until_the_first_that_is_not_shown():
    levels = holm_steps([0.03, 0.001, 0.2, 0.01], 0.05)
    assert [is_shown for _, is_shown in levels] == [False, True, False, True]
    assert levels[1][0] == pytest.approx(0.05 / 4) and levels[3][0] == pytest.approx(0.05 / 3)
    assert levels[0][0] == levels[2][0] == pytest.approx(0.05 / 4)
    assert holm_steps([], 0.05) == []


def test_holm_and_benjamini_hochberg_reject_as_statsmodels_does() -> None:
    from statsmodels.stats.multitest import multipletests

    draw = np.random.default_rng(4)
    for _ in range(10):
        p_values = {f"h{i}": float(p) for i, p in enumerate(draw.beta(0.3, 2, 7))}
        for ours, method in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
            rejected = multipletests(list(p_values.values()), alpha=0.05, method=method)[0]
            assert set(ours(p_values, 0.05)) == {name for name, each in zip(p_values, rejected, strict=True) if each}
    assert holm({}, 0.05) == benjamini_hochberg({}, 0.05) == []
