"""Tests that may be looked at all the time: false alarms over 2,000 looks, the delay, and the confidence sequence."""

import numpy as np
import pytest

from engine.stats import eprocess

LOOKS, FLOOR, DELTA = 2000, 0.85, 0.05
TOTAL = np.arange(1, LOOKS + 1)


def hits(rate, streams=500, seed=0):
    return (np.random.default_rng(seed).random((streams, LOOKS)) < rate).cumsum(axis=1)


def first(log_e, delta=DELTA):
    """Look at which each stream is decided; LOOKS where it never is."""
    crossed = log_e >= -np.log(delta)
    return np.where(crossed.any(axis=1), crossed.argmax(axis=1) + 1, LOOKS)


def test_false_alarms_over_2000_looks_are_at_most_delta_and_a_peeking_z_test_makes_far_more():
    agreed = hits(FLOOR)
    for log_e in (eprocess.above(agreed, TOTAL, FLOOR), eprocess.below(agreed, TOTAL, FLOOR)):
        assert (first(log_e) < LOOKS).mean() <= DELTA
    z = (agreed / TOTAL - FLOOR) / np.sqrt(FLOOR * (1 - FLOOR) / TOTAL)
    assert (z[:, 29:] > 1.645).any(axis=1).mean() > 0.25


def test_delay_is_short_where_the_rate_is_far_from_the_floor():
    assert np.median(first(eprocess.below(hits(0.66), TOTAL, FLOOR))) <= 60
    assert np.median(first(eprocess.below(hits(0.80), TOTAL, FLOOR))) <= 800
    assert np.median(first(eprocess.above(hits(0.95), TOTAL, FLOOR))) <= 90
    assert np.median(first(eprocess.above(hits(0.90), TOTAL, FLOOR))) <= 450


def test_mixture_is_an_integral_over_the_prior():
    rates = np.linspace(FLOOR, 1, 200_001)[1:-1]
    density = (rates * (1 - rates)) ** -0.5
    likelihood = (rates / FLOOR) ** 47 * ((1 - rates) / (1 - FLOOR)) ** 3
    expected = np.log((likelihood * density).sum() / density.sum())
    assert float(eprocess.above(47, 50, FLOOR)) == pytest.approx(expected, abs=0.02)
    assert float(eprocess.below(3, 50, 1 - FLOOR)) == pytest.approx(expected, abs=0.02)
    assert float(eprocess.above(0, 0, FLOOR)) == pytest.approx(0)


def test_e_value_is_one_on_average_at_the_edge_of_the_hypothesis():
    draw = np.random.default_rng(2)
    counts = draw.binomial(50, FLOOR, 200_000)
    assert np.exp(eprocess.above(counts, 50, FLOOR)).mean() == pytest.approx(1, abs=0.05)
    wins, losses, ties = draw.multinomial(60, [0.08, 0.10, 0.82], 200_000).T
    assert np.exp(eprocess.difference_above(wins, losses, ties, 0.02)).mean() == pytest.approx(1, abs=0.05)
    assert np.exp(eprocess.difference_below(wins, losses, ties, 0.02)).mean() == pytest.approx(1, abs=0.05)


def test_confidence_sequence_holds_the_rate_at_all_looks_together():
    agreed = hits(FLOOR, streams=60, seed=3)
    looks = range(20, LOOKS, 150)
    held = [
        all(low <= FLOOR <= high for low, high in (eprocess.confidence_sequence(row[n - 1], n, 0.1) for n in looks))
        for row in agreed
    ]
    assert np.mean(held) >= 0.9


def test_confidence_sequence_shrinks_and_ends_at_0_and_1():
    assert eprocess.confidence_sequence(0, 0, 0.05) == (0.0, 1.0)
    low, high = eprocess.confidence_sequence(40, 40, 0.05)
    assert high == 1.0 and 0.8 < low < 0.95
    assert eprocess.confidence_sequence(0, 40, 0.05)[0] == 0.0
    wide, narrow = (np.diff(eprocess.confidence_sequence(0.8 * n, n, 0.05))[0] for n in (100, 10_000))
    assert narrow < wide / 5


def test_difference_of_pairs_is_decided_on_its_side():
    draw = np.random.default_rng(4)
    for shares, above, below in (((0.10, 0.10), 0.9, 0.05), ((0.05, 0.15), 0.05, 0.9), ((0.07, 0.09), 0.05, 0.05)):
        wins, losses, ties = draw.multinomial(1, [*shares, 1 - sum(shares)], (300, 8000)).cumsum(axis=1)[:, ::50].transpose(2, 0, 1)
        found = [
            (test(wins, losses, ties, 0.02).max(axis=1) >= -np.log(DELTA)).mean()
            for test in (eprocess.difference_above, eprocess.difference_below)
        ]
        for share, limit in zip(found, (above, below), strict=True):
            assert share >= limit if limit > 0.5 else share <= limit
