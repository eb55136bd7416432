"""The comparison in shadow: its three words, failures, a champion, and going on after a restart."""

import numpy as np
import pytest

from engine.contract.serving import Shadow
from engine.records.shadow import ShadowState
from engine.serving.shadow import ShadowTest

SECTION = Shadow(floor=0.85, delta=0.05, margin=0.02, least=30)


def watched(rate, champion=None, *, rows=3000, seed=0, state=None):
    draw, test = np.random.default_rng(seed), ShadowTest(SECTION, state or ShadowState())
    for _ in range(rows):
        other = None if champion is None else bool(draw.random() < champion)
        test.observe(bool(draw.random() < rate), other)
        if test.state.word != "keep watching":
            break
    return test


@pytest.mark.parametrize(("rate", "word"), [(0.95, "promote"), (0.66, "refuse"), (0.85, "keep watching")])
def test_word_by_the_floor(rate, word):
    test = watched(rate)
    assert test.state.word == word
    view = test.view()
    assert view.agreement.low < rate < view.agreement.high and view.e_beside is None
    assert word != "promote" or view.e_above >= 20
    assert word != "refuse" or (view.e_below >= 40 and "below the floor 0.85" in view.because)


def test_challenger_above_the_floor_that_is_worse_than_the_champion_is_refused():
    test = watched(0.90, 0.99)
    assert test.state.word == "refuse" and "champion agrees oftener" in test.state.because


def test_challenger_must_be_beside_the_champion_to_be_promoted():
    assert watched(0.97, 0.95, rows=6000).state.word == "promote"
    early = watched(0.97, 0.97, rows=60)
    assert early.state.word == "keep watching" and early.state.pairs == 60


def test_no_decision_before_the_least_number_of_pairs_and_none_is_taken_back():
    test = ShadowTest(SECTION, ShadowState())
    for _ in range(29):
        test.observe(False)
    assert test.state.word == "keep watching"
    test.observe(False)
    assert (test.state.word, test.state.decided_at) == ("refuse", 30)
    for _ in range(500):
        test.observe(True)
    assert test.state.word == "refuse"


def test_a_challenger_that_fails_disagrees_and_a_missing_reference_counts_for_nothing():
    test = ShadowTest(SECTION, ShadowState())
    for _ in range(40):
        test.observe(None, True)
        test.observe(True, has_reference=False)
    assert (test.state.failed, test.state.agreed, test.state.unpaired, test.state.losses) == (40, 0, 40, 40)
    assert test.state.word == "refuse"


def test_test_goes_on_from_its_record_as_if_it_had_not_stopped():
    whole = watched(0.88, 0.86, rows=400, seed=5)
    draw, part = np.random.default_rng(5), ShadowTest(SECTION, ShadowState())
    for index in range(400):
        if index % 57 == 0:
            part = ShadowTest(SECTION, ShadowState.model_validate_json(part.state.model_dump_json()))
        other = bool(draw.random() < 0.86)
        part.observe(bool(draw.random() < 0.88), other)
    assert part.state == whole.state and part.view() == whole.view()


def test_wrong_decisions_over_2000_pairs_are_rarer_than_delta():
    wrong = [watched(0.85, rows=2000, seed=seed).state.word for seed in range(60)]
    assert sum(word == "promote" for word in wrong) <= 6  # 3 expected at most
