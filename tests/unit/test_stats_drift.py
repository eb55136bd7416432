"""Drift of a mean: false alarms over the whole stream, and the delay against a test that knows everything."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from engine.stats.drift import Baseline, ShiftDetector, money

STREAMS, ROWS, RATE, DELTA = 1000, 2000, 0.85, 0.05


def rates(at, shift, *, streams=STREAMS, seed=0):
    """Streams of 0 and 1 whose rate falls by `shift` at row `at`."""
    rate = np.where(np.arange(ROWS) < at, RATE, RATE - shift)
    return (np.random.default_rng(seed).random((streams, ROWS)) < rate).astype(float)


def first(detector, streams):
    """Row of each stream's alarm, -1 = none."""
    state, found = detector.start(len(streams)), np.full(len(streams), -1)
    for row in range(streams.shape[1]):
        state = detector.update(state, streams[:, row])
        found = np.where((found < 0) & (detector.log_e(state) >= -np.log(DELTA)), row, found)
    return found


def oracle(streams, shift):
    """Mean rows of Wald's sequential probability ratio test, which knows both rates and that the change is at row 0."""
    low = RATE - shift
    ratio = np.where(streams > 0, np.log(low / RATE), np.log((1 - low) / (1 - RATE))).cumsum(axis=1)
    crossed = ratio >= -np.log(DELTA)
    return float((crossed.argmax(axis=1) + 1)[crossed.any(axis=1)].mean())


@pytest.mark.parametrize("side", ["below", "both"])
def test_false_alarms_over_the_life_of_1000_streams_are_at_most_delta(side):
    detector = ShiftDetector(Baseline.known(RATE), side=side)
    assert (first(detector, rates(ROWS, 0)) >= 0).mean() <= DELTA


@pytest.mark.parametrize("alike", [1, 3])
def test_false_alarms_with_an_estimated_baseline_are_at_most_delta(alike):
    draw, alarms = np.random.default_rng(1), []
    streams = rates(ROWS, 0, seed=2)
    for part in np.split(streams, 50):  # 50 baselines of 300 rows, in clusters of `alike` equal rows
        values = np.repeat((draw.random(300 // alike) < RATE).astype(float), alike)
        baseline = Baseline.of(values, np.repeat(np.arange(300 // alike), alike).tolist())
        alarms += (first(ShiftDetector(baseline), part) >= 0).tolist()
    assert len(alarms) == STREAMS and np.mean(alarms) <= DELTA


def test_taking_the_baseline_for_the_truth_makes_many_false_alarms():
    draw, alarms = np.random.default_rng(1), []
    for part in np.split(rates(ROWS, 0, seed=2), 50):
        mean = (draw.random(300) < RATE).mean()
        alarms += (first(ShiftDetector(Baseline.known(float(mean))), part) >= 0).tolist()
    assert np.mean(alarms) > 2 * DELTA


@pytest.mark.parametrize("shift", [0.05, 0.1, 0.2])
def test_delay_from_the_start_is_at_most_one_and_a_half_times_the_oracle(shift):
    streams = rates(0, shift, streams=400, seed=3)
    found = first(ShiftDetector(Baseline.known(RATE), side="below"), streams)
    assert (found >= 0).mean() > 0.97
    assert (found[found >= 0] + 1).mean() <= 1.5 * oracle(streams, shift)


def test_delay_in_the_middle_of_a_stream_and_with_an_estimated_baseline_is_longer_but_bounded():
    """Nobody tells it when the change is, and 700 rows tell the baseline's rate to 0.0135."""
    streams = rates(500, 0.2, streams=200, seed=4)
    limit = oracle(streams[:, 500:], 0.2)
    for baseline, most in ((Baseline.known(RATE), 3.2), (Baseline.of(np.repeat([1.0, 0.0], [595, 105])), 4.5)):
        found = first(ShiftDetector(baseline, side="below"), streams)
        assert (found >= 0).all() and (found[found >= 500] - 499).mean() <= most * limit


def test_a_ks_test_of_every_window_alarms_in_nearly_every_null_stream():
    draw = np.random.default_rng(5)
    reference, streams = draw.random(700), draw.random((30, ROWS))
    alarms = [any(ks_2samp(reference, stream[i : i + 100]).pvalue < 0.05 for i in range(0, ROWS, 100)) for stream in streams]
    assert np.mean(alarms) > 0.5
    assert (first(ShiftDetector(Baseline.of(reference), side="both"), streams) >= 0).mean() <= 0.1


def test_change_point_direction_and_bounded_numbers():
    draw = np.random.default_rng(6)
    stream = np.r_[draw.beta(8, 2, 400), draw.beta(5, 5, 200)][None, :]
    detector = ShiftDetector(Baseline.of(draw.beta(8, 2, 2000)))
    state = detector.start(1)
    for row in range(stream.shape[1]):
        state = detector.update(state, stream[:, row])
    assert detector.log_e(state)[0] > -np.log(DELTA) and detector.direction(state)[0] == -1
    assert 380 <= detector.changed_at(state)[0] <= 430


def test_a_rate_of_zero_has_a_baseline_and_a_rise_is_found():
    detector = ShiftDetector(Baseline.of(np.zeros(700)))
    draw = np.random.default_rng(7)
    assert (first(detector, (draw.random((100, 800)) < 0.0005).astype(float)) < 0).all()
    assert (first(detector, (draw.random((50, 800)) < 0.05).astype(float)) >= 0).mean() > 0.9


def test_money_is_handed_out_once():
    left = [money(rows) for rows in (0, 1, 10, 1000, 10**6)]
    assert left[0] == 1 and left == sorted(left, reverse=True) and 0 < left[-1] < 0.01
