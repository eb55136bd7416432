"""Certified thresholds: the promise is kept as often as stated, also where rows of a cluster are alike."""

import numpy as np
import pytest
from scipy import stats

from engine.records.certificate import Certificate
from engine.stats.clusters import Clusters, design_effect, subset_design_effects
from engine.stats.selective import (
    Answers,
    Bound,
    Order,
    Promise,
    binomial_p,
    certify,
    fixed_sequence,
    order_of,
    thinned,
    upper_bound,
)

ORDER = Order(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), (0, 2), (0.5, 0.5))


def answers(confidence, right, labels=None):
    return Answers(np.array(confidence, dtype=float), np.array(right, dtype=float), [f"p{i}" for i in range(len(right))], labels)


def alike_world(clusters, share, draw):
    """Rows of clusters of 1 to 3; `share` of them copy their cluster's confidence and correctness."""
    label = np.repeat(np.arange(clusters), draw.integers(1, 4, clusters))
    copies = draw.random(len(label)) < share
    ease = 1.3 + 1.8 * np.where(copies, draw.normal(size=clusters)[label], draw.normal(size=len(label)))
    luck = np.where(copies, draw.random(clusters)[label], draw.random(len(label)))
    noise = np.where(copies, 0, draw.normal(0, 0.7, len(label)))
    right = luck < 1 / (1 + np.exp(-1.6 * ease))
    return 1 / (1 + np.exp(-ease - noise)), right.astype(float), label.tolist()


def broken(method, share, *, clusters=100, times=150, alpha=0.2, delta=0.1):
    """Share of draws whose threshold has a true risk above alpha, and the mean coverage."""
    draw = np.random.default_rng(0)
    confidence, right, _ = alike_world(40_000, share, draw)
    promise, breaks, covered = Promise(alpha, delta, 3, method), [], []
    for _ in range(times):
        order = order_of(alike_world(clusters, share, draw)[0], 2 * clusters, promise)
        threshold = certify(answers(*alike_world(clusters, share, draw)), promise, order).threshold
        above = confidence >= (np.inf if threshold is None else threshold)
        breaks.append(above.any() and 1 - right[above].mean() > alpha)
        covered.append(above.mean())
    return float(np.mean(breaks)), float(np.mean(covered))


def test_promise_is_kept_where_all_rows_of_a_cluster_are_alike_and_not_if_clusters_are_ignored():
    effective, coverage = broken("effective", 1.0)
    assert effective <= 0.1 and coverage > 0.5
    assert broken("thinned", 1.0)[0] <= 0.1
    assert broken("rows", 1.0)[0] > 0.12


def test_design_effects_of_many_subsets_are_those_of_each():
    draw = np.random.default_rng(3)
    confidence, right, labels = alike_world(40, 0.5, draw)
    subsets = confidence[None, :] >= np.quantile(confidence, [0.99, 0.7, 0.3, 0.0])[:, None]
    clusters, wrong = Clusters(labels), 1 - right
    for mask, found in zip(subsets, subset_design_effects(wrong, subsets, clusters), strict=True):
        part = clusters.take(mask)
        sums = part.sums(wrong[mask])
        informative = min((sums > 0).sum(), (sums < part.sizes).sum())
        assert found == pytest.approx(float(design_effect(wrong[mask], part, informative)))


def test_promise_is_kept_by_independent_rows_and_most_rows_are_answered():
    share, coverage = broken("rows", 0.0)
    assert share <= 0.1 and coverage > 0.7


def test_p_value_is_the_binomial_one_and_the_bound_inverts_it():
    wrong, answered = np.array([0, 2, 5, 9, 30, 0]), np.array([10, 40, 40, 90, 30, 0])
    expected = np.where(answered > 0, stats.binom.cdf(wrong, np.maximum(answered, 1), 0.15), 1)
    assert binomial_p(wrong, answered, 0.15) == pytest.approx(expected)
    assert upper_bound(3, 50, 0.1) == pytest.approx(stats.beta.ppf(0.9, 4, 47))
    assert binomial_p(np.array([3.0]), np.array([50.0]), upper_bound(3, 50, 0.1))[0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("p_values", "starts", "expected"),
    [
        ([0.01, 0.01, 0.2, 0.01], (0,), 1),  # what follows a failure is not tested
        ([0.5, 0.04, 0.04, 0.5], (0, 1), 2),  # a strict start that fails does not end the next
        ([0.04, 0.09, 0.09, 0.5], (0, 1), 2),  # what a passed start had goes on: 0.05 + 0.05
        ([0.06, 0.06], (0, 1), None),
        ([0.01], (), None),
    ],
)
def test_fixed_sequence_with_starts_that_share_and_inherit(p_values, starts, expected):
    assert fixed_sequence(np.array(p_values), starts, [0.5] * len(starts), 0.1) == expected


def test_family_wise_error_of_the_sequence_is_at_most_delta_when_every_hypothesis_is_true():
    draw = np.random.default_rng(1)
    found = [fixed_sequence(draw.random(20), (0, 6, 12), (0.2, 0.5, 0.3), 0.1) is not None for _ in range(4000)]
    assert 0.08 < np.mean(found) <= 0.11


def test_loosest_threshold_that_is_proven_is_returned_with_its_numbers():
    confidence = np.repeat([0.95, 0.85, 0.75, 0.65, 0.55], 60)
    right = np.ones(300)
    right[180::2] = 0  # half of what is below 0.7 is wrong
    found = certify(answers(confidence, right), Promise(0.1, 0.1, 2), ORDER, Bound("s", "d", "h"))
    assert (found.threshold, found.answered, found.wrong, found.method) == (0.7, 180, 0, "rows")
    assert found.coverage.value == pytest.approx(0.6) and found.risk_bound < 0.1 and found.p_value < 1e-6
    assert (found.model, found.deployment, found.holdout, found.reason) == ("s", "d", "h", "")


def test_ties_are_all_answered_or_none():
    confidence = np.full(100, 0.8)
    found = certify(answers(confidence, np.ones(100)), Promise(0.1, 0.1, 2), ORDER)
    assert found.answered in (0, 100) and found.threshold in ORDER.thresholds
    order = order_of(np.full(50, 0.8), 100, Promise())
    assert order.thresholds.tolist() == [0.8] and set(order.starts) == {0} and sum(order.shares) == pytest.approx(1)


@pytest.mark.parametrize(
    ("confidence", "right", "reason"),
    [
        ([0.9] * 20, [1] * 20, "20 independent rows have a confidence, and even without an error 24"),
        ([np.nan] * 50, [1] * 50, "gives no confidence"),
        ([0.9] * 100, [0, 1] * 50, "more labelled rows"),
    ],
)
def test_no_threshold_says_why(confidence, right, reason):
    found = certify(answers(confidence, right), Promise(0.1, 0.1, 2), ORDER)
    assert found.threshold is None and reason in found.reason and "threshold was certified" in found.expired(deployment="")


def test_answers_without_a_confidence_are_never_given():
    confidence = np.r_[np.full(100, 0.9), np.full(50, np.nan)]
    found = certify(answers(confidence, np.r_[np.ones(100), np.zeros(50)]), Promise(0.1, 0.1, 2), ORDER)
    assert found.answered == 100 and found.n == 150


def test_thinning_keeps_one_row_of_each_cluster_whatever_its_answer():
    labels = ["a", "a", "a", "b", "b", None, None]
    confidence, right = np.linspace(0.1, 0.7, 7), np.array([1, 0, 1, 0, 1, 1, 0])
    kept = thinned(answers(confidence, right, labels))
    assert len(kept.right) == 4 and kept.ids == thinned(answers(confidence, 1 - right, labels)).ids


def test_order_does_not_start_where_even_no_error_would_certify():
    promise = Promise(0.1, 0.1, 3)
    confidence = np.random.default_rng(0).random(1000)
    order = order_of(confidence, 100, promise)
    for start in order.starts:
        assert 100 * (confidence >= order.thresholds[start]).mean() >= min(100, promise.fewest)
    assert (np.diff(order.thresholds) < 0).all() and order_of(np.full(5, np.nan), 10, promise).starts == ()


def test_certificate_expires_by_another_deployment_another_holdout_and_an_alarm():
    good = Certificate(alpha=0.1, delta=0.1, starts=3, method="rows", threshold=0.8, deployment="aaa", holdout="hhh")
    assert good.expired(deployment="aaa") == "" == good.expired(deployment="aaa", holdout="hhh")
    assert "bbb is served" in good.expired(deployment="bbb")
    assert "holdout" in good.expired(deployment="aaa", holdout="other")
    assert "(agreement, length)" in good.expired(deployment="aaa", alarms=["length", "agreement"])


def test_impossible_promise_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        certify(answers([0.9], [1]), Promise(alpha=0.0), ORDER)
