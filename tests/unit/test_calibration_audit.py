"""Judges that are biased on purpose are caught, honest ones are not accused: over 20 seeds."""

import numpy as np
import pytest
from judge_world import RANKING, Character, calibrated, grader_spec, think

from engine.calibration import audit as probes
from engine.calibration.audit import verdict
from engine.contract.judges import Audit, GoldItem, Limits, Rubric
from engine.grading.grader import Grader
from engine.inference.fake import FakeEngine
from engine.judges.judge import Judge
from engine.judges.rubric import requests
from engine.records.estimate import Estimate
from tests.planted import planted
from tests.unit.test_calibration import answers

GOLD = planted(18)
SEEDS = range(20)
SECTION = {"ranking": RANKING, "audit": {}, "accept": {"confidence": 0.5}, "calibrate": {"folds": 2}}  # few fits: it is quick


def audited(folder, monkeypatch, character, **section):
    """Return the probes by name, and the calibration."""
    think(monkeypatch, character)
    calibration = calibrated(grader_spec(folder, GOLD, **{**SECTION, **section}))
    return {one.probe: one for one in calibration.audit}, calibration


def beyond(verdicts):
    return {name for name, one in verdicts.items() if one.verdict == "beyond"}


def test_honest_judge_is_not_accused_over_20_seeds(tmp_path, monkeypatch):
    for seed in SEEDS:
        verdicts, calibration = audited(tmp_path / str(seed), monkeypatch, Character(seed=seed))
        assert beyond(verdicts) == set() and calibration.decides
        assert {name for name, one in verdicts.items() if one.verdict == "unmeasured"} == {"self_preference"}


@pytest.mark.parametrize(
    ("bias", "caught", "seeds"),
    [
        ({"first": 0.3, "long": 0.9}, {"position", "padded"}, SEEDS),
        ({"first": -0.3, "short": 1.0}, {"position", "shortened"}, SEEDS[:5]),
    ],
)
def test_biased_judge_is_caught_and_stops_deciding(tmp_path, monkeypatch, bias, caught, seeds):
    for seed in seeds:
        verdicts, calibration = audited(tmp_path / str(seed), monkeypatch, Character(seed=seed, **bias))
        assert beyond(verdicts) == caught
        assert not calibration.decides and all(f"its bias `{probe}`" in " ".join(calibration.why) for probe in caught)
        assert all(verdicts[probe].low <= verdicts[probe].value <= verdicts[probe].high for probe in caught)


def test_bias_that_the_contract_lets_pass_stops_nothing(tmp_path, monkeypatch):
    section = {"audit": {"limits": {"position": None, "length": 1.0}}}
    verdicts, calibration = audited(tmp_path, monkeypatch, Character(first=0.3, long=0.6), **section)
    assert verdicts["position"].verdict == "measured" and verdicts["padded"].verdict == "within" and calibration.decides


def test_judge_of_other_words_is_unstable(tmp_path, monkeypatch):
    honest = Character()

    def moody(asked):
        return honest(asked)[:: -1 if asked.startswith("Please") else 1]

    verdicts, _ = audited(tmp_path, monkeypatch, moody)
    assert beyond(verdicts) == {"paraphrase"}


@pytest.mark.parametrize(("gain", "accused"), [(0.4, {"self_preference"}), (0.0, set()), (-0.4, set())])
def test_judge_that_prefers_its_own_family_at_the_same_label_is_caught(tmp_path, monkeypatch, gain, accused):
    authors = ("fake-large", "other-7b")
    signed = [{**item, "author": authors[n // 2 % 2], "answer": item["answer"] + " " * (n // 2 % 2)} for n, item in enumerate(GOLD)]
    honest = Character(noise=0.05)

    def vain(asked):
        worth = honest(asked.replace("  END", " END"))[1]
        worth = min(1.0, max(0.0, worth + gain * (not asked.endswith("  END"))))
        return [1 - worth, worth]

    think(monkeypatch, vain)
    rubric = {"name": "j", "model": {"type": "fake", "path": "home/fake-7b"}, "system": "", "scale": ["bad", "good"]}
    section = {"rubrics": [{**rubric, "question": "MAIL {text} FORM {answer} END"}], "audit": {"limits": {"length": None}}}
    assert beyond({one.probe: one for one in calibrated(grader_spec(tmp_path, signed, **section)).audit}) == accused


def test_interval_and_not_the_number_must_lie_beyond_the_limit():
    near = Estimate(value=0.3, low=0.05, high=0.55, n=6)
    negative = Estimate(value=-0.5, low=-0.7, high=-0.3, n=6)
    assert verdict("padded", near, 0.1).verdict == "unclear"
    assert verdict("padded", near.model_copy(update={"low": 0.11}), 0.1).verdict == "beyond"
    assert verdict("padded", negative, 0.1).verdict == "within"  # a loss is no gain
    assert verdict("position", negative, 0.1).verdict == "beyond"
    assert verdict("padded", None, 0.1, why="too few items").verdict == "unmeasured"


def test_every_probe_has_a_limit_of_the_contract():
    assert {probes.LIMIT_OF.get(name, name) for name in (*probes.PROBES, "batches", "runs")} == set(Limits.model_fields)


def test_sample_has_both_labels_and_no_order_of_the_file():
    items = [GoldItem.model_validate(one) for one in GOLD]
    drawn = probes.sample(items, 10)
    assert [item.label for item in drawn].count("right") == 5 and len(drawn) == 10
    assert probes.sample(items[::-1], 10) == drawn
    assert len(probes.sample(items, 1000)) == len(items)


def test_family_is_what_a_name_begins_with():
    assert {probes.family(name) for name in ("smollm2-135m-instruct", "a/b/SmolLM-360M/", "smollm")} == {"smollm"}


def test_position_of_a_judge_that_keeps_to_one_answer_is_nothing():
    keeps = probes.position([[0.8, 0.1, 0.1]], [[0.1, 0.8, 0.1]])
    assert keeps.tolist() == [0.0] and probes.position([[1, 0, 0], None], [[1, 0, 0], [1, 0, 0]]).tolist() == [1.0]


def test_shift_of_an_item_is_its_mean_over_the_wordings():
    assert probes.shifts([0.5, 0.5, None], [[0.7, None, 0.1], [0.4, 0.9, 0.1]]) == pytest.approx([0.15, 0.4])
    assert probes.shifts([0.5], []).size == 0


def test_other_words_say_the_same_of_every_dimension():
    section = Audit()
    rubric = Rubric.model_validate(
        {
            "name": "j",
            "model": {"type": "fake"},
            "system": "",
            "question": "Q {answer}",
            "dimensions": [{"name": "d", "question": "D?"}],
        }
    )
    from engine.judges.rubric import Case

    [plain] = requests(rubric, Case("aa", "t", "said"))
    [other] = requests(rubric, Case("aa", "t", "said"), wording=section.wordings[0])
    assert other.chat[-1]["content"] != plain.chat[-1]["content"] and other.chat[-1]["content"].endswith(plain.chat[-1]["content"])


def test_some_answers_that_failed_a_check_are_shown_to_the_judge_and_stay_where_the_rules_send_them(tmp_path, monkeypatch):
    think(monkeypatch, Character())
    texts = [f'{{"n": {n}}}' for n in range(40)]
    rows = answers(*texts)
    ids = [f"{n * 1600:04x}" for n in range(40)]
    rows = rows.set_column(rows.column_names.index("answer_id"), "answer_id", [ids])
    spec = grader_spec(tmp_path, GOLD, audit={"rules": 0.25}, checks=[{"type": "regex", "field": "n", "pattern": "x"}])
    graded = Grader(spec)(rows)
    shown = [row["score"] is not None for row in graded.to_pylist()]
    assert sum(shown) == len([one for one in ids if int(one, 16) < 0.25 * 16**4]) and set(graded["pool"].to_pylist()) == {
        "contrast"
    }


def test_judge_without_an_audit_is_asked_about_the_labelled_items_only(tmp_path, monkeypatch):
    read = think(monkeypatch, Character())
    calibration = calibrated(grader_spec(tmp_path, GOLD, ranking=RANKING))
    assert calibration.audit == () and len(read) == len(GOLD)


def test_pairs_of_right_and_wrong_are_counted(tmp_path, monkeypatch):
    _, calibration = audited(tmp_path, monkeypatch, Character(noise=0.0))
    assert (calibration.agreement.pairs.value, calibration.agreement.pairs.n) == (1.0, 18)


def test_models_of_equal_settings_share_one_engine(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(FakeEngine, "reset_prefix_cache", lambda self: loaded.append(id(self)))
    think(monkeypatch, Character())
    rubric = {
        "name": "j",
        "model": {"type": "fake"},
        "system": "S",
        "question": "MAIL {text} FORM {answer} END",
        "scale": ["0", "1"],
    }
    other = {**rubric, "name": "k", "model": {"type": "fake", "path": "another"}}
    judge = Judge(grader_spec(tmp_path, rubrics=[rubric, {**rubric, "name": "i", "system": "T"}, other]))
    from engine.judges.rubric import Case

    judge.score([Case("aa", "t", "said")])
    assert len(set(loaded)) == 2 and judge.name == "j+i+k" and np.unique(loaded).size == 2
