"""The monitor: which signal alarms, with which rows, and after a restart; the domain classifier; the trickle of labels."""

import numpy as np
import pytest

from engine.contract.serving import Monitor as Section
from engine.records.monitor import MonitorState
from engine.serving.domain import DomainTest
from engine.serving.monitor import Monitor, Observation, signals_of
from engine.serving.trickle import Labelled, accuracy, draw
from engine.stats.drift import Baseline

SECTION = Section(delta=0.05, keep=500)


def baselines(draw):
    return {
        "agreement": Baseline.of((draw.random(2000) < 0.9).astype(float)),
        "confidence": Baseline.of(draw.beta(8, 2, 2000)),
        "nulls.city": Baseline.of((draw.random(2000) < 0.1).astype(float)),
    }


def row(draw, index, *, agreement=0.9, nulls=0.1):
    values = {"confidence": draw.beta(8, 2), "nulls.city": float(draw.random() < nulls)}
    if index % 2 == 0:  # the teacher is asked about half of the rows
        values["agreement"] = float(draw.random() < agreement)
    return Observation(f"r{index}", values)


def watch(monitor, rows):
    return [alarm for each in rows for alarm in monitor.observe(each)]


def test_shifted_signal_is_named_with_the_rows_since_the_change():
    draw = np.random.default_rng(0)
    monitor = Monitor(SECTION, baselines(draw))
    assert watch(monitor, [row(draw, index) for index in range(600)]) == []
    alarms = watch(monitor, [row(draw, index, nulls=0.45) for index in range(600, 900)])
    assert [alarm.signal for alarm in alarms] == ["nulls.city"]
    alarm = alarms[0]
    assert alarm.named and alarm.direction == 1 and alarm.e_value >= 20 and alarm.at > 600
    since = [int(each[1:]) for each in alarm.rows]
    assert since == sorted(since) and since[-1] == alarm.at - 1 and 560 <= since[0] <= 640
    assert alarm.mean > 0.3 and "nulls.city is proven to have changed" in alarm.sentence


def test_signal_that_few_rows_have_is_tested_on_those_and_alarms_once():
    draw = np.random.default_rng(1)
    monitor = Monitor(SECTION, baselines(draw))
    alarms = watch(monitor, [row(draw, index, agreement=0.6) for index in range(1500)])
    assert [alarm.signal for alarm in alarms] == ["agreement"] and all(int(each[1:]) % 2 == 0 for each in alarms[0].rows)


def test_monitor_goes_on_from_its_record_as_if_it_had_not_stopped():
    rows = [row(np.random.default_rng(2 + index), index, nulls=0.1 if index < 200 else 0.2) for index in range(400)]
    made = [Monitor(SECTION, baselines(np.random.default_rng(0))) for _ in range(2)]
    watch(made[0], rows)
    watch(made[1], rows[:250])
    state = MonitorState.model_validate_json(made[1].state().model_dump_json())
    again = Monitor(SECTION, baselines(np.random.default_rng(0)), state=state)
    watch(again, rows[250:])
    assert again.state() == made[0].state() and again.e_value == made[0].e_value


def test_null_streams_of_all_signals_together_alarm_in_at_most_delta():
    alarms = 0
    for seed in range(40):
        draw = np.random.default_rng(100 + seed)
        monitor = Monitor(SECTION, baselines(draw))
        alarms += bool(watch(monitor, [row(draw, index) for index in range(300)]))
    assert alarms <= 4  # 2 expected at most


def cloud(draw, rows, shift=0.0):
    centre = np.zeros(16)
    centre[3] = shift
    return draw.normal(centre, 1, (rows, 16)) / 4


def test_domain_classifier_finds_other_prompts_and_alarms_with_their_rows():
    draw = np.random.default_rng(3)
    monitor = Monitor(SECTION, {}, DomainTest(cloud(draw, 600), every=100))
    stream = np.concatenate([cloud(draw, 300), cloud(draw, 600, shift=2.0)])
    alarms = watch(monitor, [Observation(f"r{index}", {}, each) for index, each in enumerate(stream)])
    assert [alarm.signal for alarm in alarms] == ["embedding"] and 300 < alarms[0].at < 700
    assert min(int(each[1:]) for each in alarms[0].rows) >= 290


def test_domain_classifier_is_silent_on_prompts_of_the_baseline():
    found = []
    for seed in range(20):
        draw = np.random.default_rng(10 + seed)
        test = DomainTest(cloud(draw, 300), every=100)
        assert test.e_value == pytest.approx(1)
        peak = 0.0
        for index, each in enumerate(cloud(draw, 500)):
            test.update(f"r{index}", each)
            peak = max(peak, test.e_value)
        found.append(peak >= 20)
    assert np.mean(found) <= 0.05


def test_domain_classifier_survives_a_restart_and_needs_a_baseline():
    draw = np.random.default_rng(4)
    base, stream = cloud(draw, 300), cloud(draw, 250, shift=1.0)
    monitor = Monitor(SECTION, {}, DomainTest(base, every=100))
    watch(monitor, [Observation(f"r{index}", {}, each) for index, each in enumerate(stream)])
    state = MonitorState.model_validate_json(monitor.state().model_dump_json())
    again = Monitor(SECTION, {}, DomainTest(base, every=100), state=state)
    assert again.e_value == pytest.approx(monitor.e_value) and again.state().alarms == monitor.state().alarms
    with pytest.raises(ValueError, match="at least 4"):
        DomainTest(base[:3])


def test_numbers_of_an_answer():
    found = signals_of(
        {"agrees": True, "confidence": None, "abstained": False, "text": "x" * 40}, longest=40, fields={"a": None, "b": 1}
    )
    assert found == {"agreement": 1.0, "abstention": 0.0, "length": 40 / 60, "nulls.a": 1.0, "nulls.b": 0.0}


def trickled(seed, *, truth=0.8, rows=4000):
    draws = np.random.default_rng(seed)
    right = (draws.random(rows) < truth).astype(float)
    disagrees = np.where(right > 0, draws.random(rows) < 0.1, draws.random(rows) < 0.7)
    picked = [draw(f"{seed}-{index}", bool(each), Section()) for index, each in enumerate(disagrees)]
    probability = np.array([each.probability for each in picked])
    labelled = np.where([each.asked for each in picked], right, np.nan)
    confidence = np.clip(0.5 + 0.4 * (right - 0.2) + draws.normal(0, 0.1, rows), 0, 1)
    return Labelled(confidence, probability, labelled), right.mean()


def test_accuracy_from_a_trickle_is_unbiased_and_its_interval_holds_the_truth():
    found = [(accuracy(rows), truth) for rows, truth in (trickled(seed) for seed in range(100))]
    errors = np.array([each.accuracy.value - truth for each, truth in found])
    held = [each.accuracy.low <= truth <= each.accuracy.high for each, truth in found]
    assert abs(errors.mean()) < 0.01 and np.mean(held) >= 0.9
    naive = [np.nanmean(rows.right) for rows, _ in (trickled(seed) for seed in range(20))]
    assert np.mean(naive) < 0.7  # labels of disagreements alone would say so


def test_labels_that_are_still_to_come_move_no_estimate_to_the_confidence():
    errors, held = [], []
    for seed in range(100):
        draws, rows = np.random.default_rng(seed), 4000
        right = (draws.random(rows) < 0.6).astype(float)
        disagrees = draws.random(rows) < np.where(right > 0, 0.1, 0.6)
        picked = [draw(f"{seed}-{index}", bool(each), Section(labels=0.1)) for index, each in enumerate(disagrees)]
        drawn = np.array([each.asked for each in picked])
        done = np.zeros(rows, dtype=bool)
        for stratum, share in ((True, 0.3), (False, 0.1)):  # the first ones of each stratum have a label, unequally many
            waiting = sorted(np.flatnonzero(drawn & (disagrees == stratum)), key=lambda index: picked[index].place)
            done[waiting[: int(share * len(waiting))]] = True
        probability = np.array([each.probability for each in picked])
        found = accuracy(Labelled(np.full(rows, 0.95), probability, np.where(done, right, np.nan), drawn, disagrees))
        errors.append(found.accuracy.value - right.mean())
        held.append(found.accuracy.low <= right.mean() <= found.accuracy.high)
        assert found.waiting == (drawn & ~done).sum()
    assert abs(np.mean(errors)) < 0.03 and np.mean(held) >= 0.9


def test_no_interval_if_a_kind_of_request_was_drawn_and_has_no_label():
    right = np.array([1.0, 0.0, np.nan, np.nan])
    stratum = np.array([True, True, False, False])
    rows = Labelled(np.full(4, 0.5), np.full(4, 0.5), right, np.array([True, True, True, False]), stratum)
    assert accuracy(rows).accuracy is None and accuracy(rows).waiting == 1
    assert accuracy(rows._replace(drawn=stratum)).accuracy is not None
    with pytest.raises(ValueError, match="was not drawn"):
        accuracy(rows._replace(drawn=~stratum))


def test_draw_is_by_the_id_and_labels_without_a_probability_are_refused():
    section = Section(labels=0.1, labels_disagreeing=0.5)
    assert draw("a", True, section) == draw("a", True, section)
    assert 0.4 < np.mean([draw(str(index), True, section).asked for index in range(1000)]) < 0.6
    assert draw("a", None, section).probability == 0.1
    with pytest.raises(ValueError, match="probability 0"):
        accuracy(Labelled(np.full(3, 0.5), np.zeros(3), np.ones(3)))
    assert accuracy(Labelled(np.full(3, 0.5), np.ones(3), np.full(3, np.nan))).accuracy is None
