"""What is learnt of a judge on labelled items: the numbers are those counted by hand, and below the floor it decides nothing."""

import dataclasses
import json

import numpy as np
import pytest
from judge_world import RUBRIC, Character, bar, learnt, think

from engine.calibration.curve import cross_fitted, fit
from engine.contract.judges import Calibrate
from engine.errors import InputError
from engine.grading.grader import Grader
from engine.inference.fake import FakeEngine
from engine.inference.token_budget import usage_in
from engine.judges.judge import Judge
from engine.rows import ANSWER, from_rows
from engine.stats import intervals
from tests.planted import KINDS, by_hand, planted

GOLD = planted(60)


def answers(*said):
    plain = {
        "task_unit": "form",
        "text": "two",
        "teacher": "t",
        "finish_reason": "stop",
        "redacted": [],
        "error": "",
        "difficulty": "easy",
    }
    return from_rows(
        [{**plain, "prompt_id": f"a{n}", "answer_id": f"f{n}", "answer": answer} for n, answer in enumerate(said)], ANSWER
    )


def sees_all_but(*kinds):
    """A judge that is blind to some kinds of errors, and stops every tenth right answer."""
    blind = {item["answer"] for item in GOLD if item["error"] in kinds}
    right = sorted({item["answer"] for item in GOLD if item["label"] == "right"})
    passed = blind | {answer for number, answer in enumerate(right) if number % 10}
    return lambda asked: [0.1, 0.9] if asked.partition(" FORM ")[2].removesuffix(" END") in passed else [0.9, 0.1]


def test_numbers_on_planted_errors_of_six_kinds_are_those_counted_by_hand(tmp_path, monkeypatch):
    think(monkeypatch, sees_all_but("swapped_fields"))
    found = learnt(bar(tmp_path, GOLD, accept={"confidence": 0.5}))
    values = {name: found.agreement[name]["value"] for name in ("sensitivity", "specificity", "kappa")}
    assert values == pytest.approx({"sensitivity": 54 / 60, "specificity": 50 / 60, "kappa": 2 * (104 / 120 - 0.5)})
    assert values == pytest.approx(by_hand(found.items, 0.5))
    assert found.agreement["counts"] == [[50, 6], [10, 54]]
    assert found.folds == 5
    stopped = {kind: one["value"] for kind, one in found.agreement["errors"].items()}
    assert stopped == {kind: float(kind != "swapped_fields") for kind in KINDS}


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_confidence_is_a_probability_and_rises_with_the_score(method):
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.4, 0.6, 400)  # a timid judge that knows much
    right = rng.uniform(size=400) < (scores - 0.4) * 5
    curve = fit(scores, right, method)
    found = curve(np.linspace(0, 1, 101))
    assert (np.diff(found) >= 0).all() and (found > 0).all() and (found < 1).all()
    assert curve(np.array([0.42]))[0] < 0.25 < 0.75 < curve(np.array([0.58]))[0]
    assert type(curve).model_validate_json(curve.model_dump_json()) == curve


def test_fit_refuses_labels_that_are_all_the_same():
    with pytest.raises(InputError, match="expected some of each"):
        fit(np.array([0.1, 0.2]), np.array([True, True]), "platt")


def test_cross_fitting_gives_a_judge_that_knows_nothing_no_credit():
    """Rising steps fitted to noise look skilled on the very items, and are not."""
    kappas = {1: [], 5: []}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        scores, right = rng.uniform(size=60), rng.uniform(size=60) < 0.5
        section = Calibrate.model_validate({"gold": GOLD[:8], "method": "isotonic"})
        held, folds = cross_fitted(scores, right, [str(n) for n in range(60)], section)
        for name, confidence in ((1, fit(scores, right, "isotonic")(scores)), (folds, held)):
            table = np.histogram2d(confidence >= 0.5, right, bins=[[-1, 0.5, 2]] * 2)[0]
            kappas[name].append(intervals.kappa(table)["value"])
    assert np.mean(kappas[1]) > 0.1 > abs(np.mean(kappas[5]))


def test_items_of_one_mail_are_held_out_together():
    groups = [str(n // 2) for n in range(16)]
    scores = np.array([0.1 + n / 20 for n in range(16)])
    right = np.array([bool(n % 2) for n in range(16)])
    section = Calibrate.model_validate({"gold": GOLD[:8], "folds": 4})
    found, folds = cross_fitted(scores, right, groups, section)
    moved, _ = cross_fitted(np.where(np.arange(16) == 0, 0.99, scores), right, groups, section)
    assert folds == 4 and found[1] == moved[1]  # the twin of what was changed had no part in it


def test_too_few_items_for_folds_are_said_to_be_fitted_on_all():
    scores, right = np.array([0.9, 0.2, 0.3, 0.1]), np.array([True, False, False, False])
    section = Calibrate.model_validate({"gold": GOLD[:8]})
    assert cross_fitted(scores, right, list("abcd"), section)[1] == 1


def test_judge_below_the_floor_annotates_and_decides_nothing(tmp_path, monkeypatch):
    think(monkeypatch, sees_all_but(*KINDS))
    section = {"calibrate": {"floor": {"kappa": 0.4, "auc": 0.7}}, "accept": {"confidence": 0.9}, "pools": {"tiers": [0.5]}}
    rows = Grader(bar(tmp_path, GOLD, **section))(answers("anything", GOLD[0]["answer"]))
    assert rows["judge_decides"].to_pylist() == [False, False] and rows["confidence_tier"].to_pylist() == [None, None]
    assert None not in rows["confidence"].to_pylist() and rows["pool"].to_pylist() == ["train", "train"]
    found = learnt(bar(tmp_path, GOLD, **section))
    assert not found.gates
    assert (
        found.why[0].startswith("its kappa on the labelled items is ") and "at least 0.4" in found.why[0] and "auc" in found.why[1]
    )


def test_judge_above_the_floor_decides(tmp_path, monkeypatch):
    think(monkeypatch, sees_all_but())
    section = {
        "calibrate": {"floor": {"kappa": 0.4, "auc": 0.7, "ece": 0.2}},
        "accept": {"confidence": 0.5},
        "pools": {"tiers": [0.5]},
    }
    rows = Grader(bar(tmp_path, GOLD, **section))(answers("anything", GOLD[2]["answer"]))
    assert rows["judge_decides"].to_pylist() == [True, True] and rows["confidence_tier"].to_pylist() == [1, 0]
    assert rows["pool"].to_pylist() == ["review", "train"]


def test_instrument_is_learnt_before_the_first_verdict_and_never_again(tmp_path, monkeypatch):
    read = think(monkeypatch, Character())
    given = bar(tmp_path, GOLD, audit={})
    first = Grader(given)(answers("two", "three"))
    assert [text.partition("FORM ")[2] for text in read[-2:]] == ["two END", "three END"] and len(read) > 120
    paid = usage_in(given.budget)["j"]
    assert paid.answers == len(read) == len(set(read))  # labelled items and their other shapes, each once, all counted
    again = Grader(given)
    assert again(answers("two", "three")).equals(first)
    assert again.judge and not any(one.client.engine for one in again.judge.clients.values())
    assert usage_in(given.budget)["j"] == paid


def test_instrument_is_learnt_whatever_the_budget_says_and_counted(tmp_path, monkeypatch):
    think(monkeypatch, Character())
    given = dataclasses.replace(bar(tmp_path, GOLD), cap=1)
    rows = Grader(given)(answers("two"))
    assert rows["reasons"].to_pylist() == [["judge_budget_exhausted"]]
    assert usage_in(given.budget)["j"].answers == len(GOLD)


def test_instrument_says_by_name_what_it_is_bound_to(tmp_path, monkeypatch):
    think(monkeypatch, Character())
    given = bar(tmp_path, GOLD)
    found = learnt(given)
    [name] = [name for name in given.ledger.files() if name.startswith("instrument-")]
    kept = json.loads(given.ledger.read(name))
    assert kept["bound_to"] == found.bound_to
    assert kept["bound_to"]["judge"] == Judge(given).identity and kept["bound_to"]["gold"]["items"] == 120
    assert set(kept["bound_to"]["models"]) == set(kept["bound_to"]["rubrics"]) == {"j"}
    assert [one["label"] for one in kept["items"]] == [one["label"] for one in GOLD]


@pytest.mark.parametrize(
    ("gold", "section", "asked"),
    [
        (GOLD, {"accept": {"confidence": 0.7}}, 0),
        (GOLD, {"calibrate": {"method": "isotonic"}}, 0),
        (GOLD, {"rubrics": [{**RUBRIC, "name": "k"}]}, 0),
        (planted(54), {}, 0),
        (GOLD, {"rubrics": [{**RUBRIC, "system": "Judge well."}]}, 120),
    ],
)
def test_another_instrument_pays_only_for_questions_that_are_new(tmp_path, monkeypatch, gold, section, asked):
    read = think(monkeypatch, Character())
    learnt(bar(tmp_path, GOLD))
    before = len(read)
    other = bar(tmp_path, gold, **section)
    learnt(other)
    assert len(read) - before == asked
    assert len([name for name in other.ledger.files() if name.startswith("instrument-")]) == 2


class Dead(BaseException):
    """The process is gone."""


def test_labelled_item_that_kills_the_judge_is_set_apart(tmp_path, monkeypatch):
    given, deaths = bar(tmp_path, GOLD[:20]), 0
    poison, mark = GOLD[4]["answer"], sees_all_but()

    def choice_probs(self, chats, marks):
        if any(poison in chat[-1]["content"] for chat in chats):
            raise RuntimeError("the engine is dead")
        return [mark(chat[-1]["content"]) for chat in chats]

    def die(status):
        raise Dead(status)

    monkeypatch.setattr(FakeEngine, "choice_probs", choice_probs)
    while True:
        grader = Grader(given)
        assert grader.judge is not None
        grader.judge.clients["j"].client.isolator.die = die
        try:
            grader(answers("two"))
            break
        except Dead:
            deaths += 1
            assert deaths < 10
    unread = [one for one in learnt(given).items if one["score"] is None]
    assert deaths and [one["label"] for one in unread] == ["right"]


def test_labelled_items_that_nobody_can_read_stop_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(FakeEngine, "choice_probs", lambda self, chats, marks: [None for _ in chats])
    with pytest.raises(InputError, match=r"could not be read on any of the 120 items"):
        learnt(bar(tmp_path, GOLD))


def test_kappa_and_its_interval_are_those_of_the_textbook():
    """Fleiss, Levin and Paik, 2003, table 18.1 and section 18.1: kappa 0.68, standard error 0.087."""
    found = intervals.kappa(np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]]))
    assert found["value"] == pytest.approx(0.676, abs=0.001)
    assert (found["high"] - found["low"]) / 2 / 1.96 == pytest.approx(0.087, abs=0.001)


def test_share_has_the_interval_of_wilson():
    found = intervals.share(81, 263)  # Newcombe, 1998, table I
    assert (found["low"], found["high"]) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))


def test_auc_is_that_of_scikit_learn_and_its_interval_holds():
    from sklearn.metrics import roc_auc_score

    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        right = np.arange(60) < 30
        scores = np.round(rng.normal(size=60) + right, 1)  # the true area is that of a distance of one
        found = intervals.auc(scores, right)
        assert found["value"] == pytest.approx(roc_auc_score(right, scores), abs=1e-6)
        held += found["low"] <= 0.7602 <= found["high"]
    assert held / 200 == pytest.approx(0.95, abs=0.04)
