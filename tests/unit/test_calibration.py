"""Calibration of a judge: the numbers are those counted by hand, and a judge below the minimum decides nothing."""

import json

import numpy as np
import pytest
from judge_world import RANKING, RUBRIC, Character, calibrated, change_clients, grader_spec, think

from engine.calibration.curve import cross_fit, fit, probabilities
from engine.contract.judges import Calibrate, Ranking, Rubric
from engine.contract.renames import older_json
from engine.contract.signals import Quality
from engine.errors import InputError, ModelError
from engine.grading.grader import Grader
from engine.inference.engine import Lost
from engine.inference.fake import FakeEngine
from engine.inference.token_budget import usage_in
from engine.judges.judge import Judge
from engine.rows import ANSWER, from_rows
from engine.stats.discrimination import cohen_kappa
from tests.planted import KINDS, by_hand, planted

GOLD = planted(60)


def answers(*texts):
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
        [{**plain, "prompt_id": f"a{n}", "answer_id": f"f{n}", "answer": answer} for n, answer in enumerate(texts)], ANSWER
    )


def sees_all_but(*kinds):
    """A judge that is blind to some kinds of errors, and stops every tenth right answer."""
    blind = {item["answer"] for item in GOLD if item["error"] in kinds}
    right = sorted({item["answer"] for item in GOLD if item["label"] == "right"})
    passed = blind | {answer for number, answer in enumerate(right) if number % 10}
    return lambda asked: [0.1, 0.9] if asked.partition(" FORM ")[2].removesuffix(" END") in passed else [0.9, 0.1]


def test_numbers_on_planted_errors_of_six_kinds_are_those_counted_by_hand(tmp_path, monkeypatch):
    think(monkeypatch, sees_all_but("swapped_fields"))
    calibration = calibrated(grader_spec(tmp_path, GOLD, accept={"confidence": 0.5}))
    values = {name: getattr(calibration.agreement, name).value for name in ("sensitivity", "specificity", "kappa")}
    assert values == pytest.approx({"sensitivity": 54 / 60, "specificity": 50 / 60, "kappa": 2 * (104 / 120 - 0.5)})
    assert values == pytest.approx(by_hand([item.model_dump() for item in calibration.items], 0.5))
    assert calibration.agreement.counts == ((50, 6), (10, 54))
    assert calibration.folds == 5
    stopped = {kind: share.value for kind, share in calibration.agreement.errors.items()}
    assert stopped == {kind: float(kind != "swapped_fields") for kind in KINDS}


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_confidence_is_a_probability_and_rises_with_the_score(method):
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.4, 0.6, 400)  # a timid judge that knows much
    right = rng.uniform(size=400) < (scores - 0.4) * 5
    curve = fit(scores, right, method)
    rising = probabilities(curve, np.linspace(0, 1, 101))
    assert (np.diff(rising) >= 0).all() and (rising > 0).all() and (rising < 1).all()
    assert probabilities(curve, np.array([0.42]))[0] < 0.25 < 0.75 < probabilities(curve, np.array([0.58]))[0]
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
        held, folds = cross_fit(scores, right, [str(n) for n in range(60)], section)
        for name, confidence in ((1, probabilities(fit(scores, right, "isotonic"), scores)), (folds, held)):
            table = np.histogram2d(confidence >= 0.5, right, bins=[[-1, 0.5, 2]] * 2)[0]
            kappas[name].append(cohen_kappa(table).value)
    assert np.mean(kappas[1]) > 0.1 > abs(np.mean(kappas[5]))


def test_items_of_one_mail_are_held_out_together():
    groups = [str(n // 2) for n in range(16)]
    scores = np.array([0.1 + n / 20 for n in range(16)])
    right = np.array([bool(n % 2) for n in range(16)])
    section = Calibrate.model_validate({"gold": GOLD[:8], "folds": 4})
    confidence, folds = cross_fit(scores, right, groups, section)
    moved, _ = cross_fit(np.where(np.arange(16) == 0, 0.99, scores), right, groups, section)
    assert folds == 4 and confidence[1] == moved[1]  # the twin of what was changed had no part in it


def test_too_few_items_for_folds_are_said_to_be_fitted_on_all():
    scores, right = np.array([0.9, 0.2, 0.3, 0.1]), np.array([True, False, False, False])
    section = Calibrate.model_validate({"gold": GOLD[:8]})
    assert cross_fit(scores, right, list("abcd"), section)[1] == 1


def test_judge_below_the_minimum_annotates_and_decides_nothing(tmp_path, monkeypatch):
    think(monkeypatch, sees_all_but(*KINDS))
    section = {
        "calibrate": {"minimum": {"kappa": 0.4, "auc": 0.7}},
        "accept": {"confidence": 0.9},
        "pools": {"confidence_tiers": [0.5]},
    }
    rows = Grader(grader_spec(tmp_path, GOLD, **section))(answers("anything", GOLD[0]["answer"]))
    assert rows["judge_decides"].to_pylist() == [False, False] and rows["confidence_tier"].to_pylist() == [None, None]
    assert None not in rows["confidence"].to_pylist() and rows["pool"].to_pylist() == ["train", "train"]
    calibration = calibrated(grader_spec(tmp_path, GOLD, **section))
    assert not calibration.decides
    assert (
        calibration.why[0].startswith("its kappa on the labelled items is ")
        and "at least 0.4" in calibration.why[0]
        and "auc" in calibration.why[1]
    )


def test_judge_above_the_minimum_decides(tmp_path, monkeypatch):
    think(monkeypatch, sees_all_but())
    section = {
        "calibrate": {"minimum": {"kappa": 0.4, "auc": 0.7, "ece": 0.2}},
        "accept": {"confidence": 0.5},
        "pools": {"confidence_tiers": [0.5]},
    }
    rows = Grader(grader_spec(tmp_path, GOLD, **section))(answers("anything", GOLD[2]["answer"]))
    assert rows["judge_decides"].to_pylist() == [True, True] and rows["confidence_tier"].to_pylist() == [1, 0]
    assert rows["pool"].to_pylist() == ["review", "train"]


def test_judge_is_calibrated_before_its_first_score_and_never_again(tmp_path, monkeypatch):
    read = think(monkeypatch, Character())
    spec = grader_spec(tmp_path, GOLD, audit={})
    first = Grader(spec)(answers("two", "three"))
    assert [text.partition("FORM ")[2] for text in read[-2:]] == ["two END", "three END"] and len(read) > 120
    paid = usage_in(spec.client.budget)["j"]
    assert paid.answers == len(read) == len(set(read))  # labelled items and their other shapes, each once, all counted
    again = Grader(spec)
    assert again(answers("two", "three")).equals(first)
    assert again.judge and not any(one.client.engine for one in again.judge.clients.values())
    assert usage_in(spec.client.budget)["j"] == paid


def test_calibration_ignores_the_budget_and_is_counted(tmp_path, monkeypatch):
    think(monkeypatch, Character())
    spec = change_clients(grader_spec(tmp_path, GOLD), cap=1)
    rows = Grader(spec)(answers("two"))
    assert rows["reasons"].to_pylist() == [["judge_budget_exhausted"]]
    assert usage_in(spec.client.budget)["j"].answers == len(GOLD)


def test_calibration_records_what_it_is_valid_for(tmp_path, monkeypatch):
    think(monkeypatch, Character())
    spec = grader_spec(tmp_path, GOLD)
    calibration = calibrated(spec)
    [name] = [name for name in spec.client.ledger.files() if name.startswith("calibration-")]
    saved = json.loads(spec.client.ledger.read(name))
    assert saved["bound_to"] == calibration.bound_to.model_dump()
    assert saved["bound_to"]["judge"] == Judge(spec).identity and saved["bound_to"]["gold"]["items"] == 120
    assert set(saved["bound_to"]["models"]) == set(saved["bound_to"]["rubrics"]) == {"j"}
    assert [one["label"] for one in saved["items"]] == [one["label"] for one in GOLD]


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
def test_another_calibration_pays_only_for_new_questions(tmp_path, monkeypatch, gold, section, asked):
    read = think(monkeypatch, Character())
    calibrated(grader_spec(tmp_path, GOLD))
    before = len(read)
    other = grader_spec(tmp_path, gold, **section)
    calibrated(other)
    assert len(read) - before == asked
    assert len([name for name in other.client.ledger.files() if name.startswith("calibration-")]) == 2


@pytest.mark.parametrize("lost", [GOLD[7]["answer"], "FIRST"])  # a labelled item, and the pairs of the audit
def test_calibration_without_some_of_its_items_is_not_kept(tmp_path, monkeypatch, lost):
    spec, mark = grader_spec(tmp_path, GOLD, ranking=RANKING, audit={}), Character()
    think(monkeypatch, lambda asked: Lost() if lost in asked else mark(asked))
    with pytest.raises(ModelError, match=r"judges.calibrate.gold: j \(fake\) did not answer \d+ questions about labelled items"):
        calibrated(spec)
    assert not [name for name in spec.client.ledger.files() if name.startswith("calibration-")]
    read = think(monkeypatch, mark)
    assert calibrated(spec).agreement and read


def test_answer_of_which_a_judge_lost_the_question_says_so(tmp_path, monkeypatch):
    mark = Character()
    think(monkeypatch, lambda asked: Lost() if "FORM two" in asked else None if "FORM three" in asked else mark(asked))
    rows = Grader(grader_spec(tmp_path))(answers("two", "three"))
    assert rows["pool"].to_pylist() == ["review"] * 2 and rows["reasons"].to_pylist() == [["judge_lost"], ["judge_unreadable"]]


class Dead(BaseException):
    """The process is gone."""


def test_labelled_item_that_kills_the_judge_is_set_apart(tmp_path, monkeypatch):
    spec, deaths = grader_spec(tmp_path, GOLD[:20]), 0
    poison, mark = GOLD[4]["answer"], sees_all_but()

    def choice_probs(self, chats, marks):
        if any(poison in chat[-1]["content"] for chat in chats):
            raise RuntimeError("the engine is dead")
        return [mark(chat[-1]["content"]) for chat in chats]

    def die(status):
        raise Dead(status)

    monkeypatch.setattr(FakeEngine, "choice_probs", choice_probs)
    while True:
        grader = Grader(spec)
        assert grader.judge is not None
        grader.judge.clients["j"].client.isolator.die = die
        try:
            grader(answers("two"))
            break
        except Dead:
            deaths += 1
            assert deaths < 10
    unread = [one for one in calibrated(spec).items if one.score is None]
    assert deaths and [one.label for one in unread] == ["right"]


def test_labelled_items_that_nobody_can_read_stop_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(FakeEngine, "choice_probs", lambda self, chats, marks: [None for _ in chats])
    with pytest.raises(InputError, match=r"could not be read on any of the 120 items"):
        calibrated(grader_spec(tmp_path, GOLD))


def test_calibration_of_an_earlier_version_is_read(tmp_path, monkeypatch):
    """It has the older file name and keys; the judge is not asked again."""
    read = think(monkeypatch, Character())
    spec = grader_spec(tmp_path, GOLD, audit={})
    calibration, count = calibrated(spec), len(read)
    [name] = [name for name in spec.client.ledger.files() if name.startswith("calibration-")]
    older = spec.client.ledger.read(name).decode()
    for key, old in (("decides", "gates"), ("verdict", "found"), ("clip", "least")):
        older = older.replace(f'"{key}":', f'"{old}":')
    spec.client.ledger.remove(name)
    spec.client.ledger.write(name.replace("calibration-", "instrument-"), older.encode())
    assert calibrated(spec) == calibration and len(read) == count


def test_hashes_of_sections_are_those_of_the_earlier_key_names(tmp_path):
    """The literals were written by the version before `scale`, `rating`, `labels`, `label`, `max_answers` and `minimum`."""
    dimension = {"name": "d", "question": "D?", "scale": ["no", "yes"], "anchors": {"no": "wrong"}}
    shot = {"text": "a", "answer": "b", "rating": {"d": "no"}}
    rubric = Rubric.model_validate({**RUBRIC, "dimensions": [dimension], "shots": [shot]})
    assert older_json(rubric, "judges.rubrics.*", exclude=("model", "name")) == (
        '{"system":"Judge.","question":"MAIL {text} FORM {answer} END","by_task_unit":{},"marks":["bad","good"],"dimensions":'
        '[{"name":"d","question":"D?","marks":["no","yes"],"anchors":{"no":"wrong"},"weight":1.0}],"weight":1.0,"shots":'
        '[{"text":"a","answer":"b","reference":"","mark":{"d":"no"}}]}'
    )
    ranking = Ranking.model_validate({"question": "?", "shots": [{"text": "a", "first": "b", "second": "c", "label": "A"}]})
    assert older_json(ranking, "judges.ranking") == (
        '{"rubric":null,"question":"?","by_task_unit":{},"marks":["A","B","C"],"shots":[{"text":"a","first":"b","second":"c",'
        '"reference":"","mark":"A"}],"most":6}'
    )
    calibrate = Calibrate.model_validate({"gold": GOLD[:8], "minimum": {"kappa": 0.4}})
    assert older_json(calibrate, "judges.calibrate", exclude=("gold",)) == (
        '{"method":"platt","folds":5,"floor":{"kappa":0.4,"auc":null,"sensitivity":null,"specificity":null,"ece":null}}'
    )
    assert older_json(Quality(question="?"), "judges.signals.quality") == (
        '{"system":"You rate examples for training.","question":"?","marks":["1","2","3","4","5","6"]}'
    )
