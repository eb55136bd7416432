"""Confidence from evidence, through the grader: planted likelihoods, items without a teacher, what is asked and what is not."""

import json

import numpy as np
import pytest
from evidence_world import READER, answers, gold, spec, think
from judge_world import RUBRIC
from judge_world import think as rate

from engine.calibration import judge_calibration
from engine.contract.judges import Judges
from engine.errors import InputError, ModelError
from engine.evidence import labelled
from engine.evidence.confidence import Confidence
from engine.evidence.distance import LabelledPrompts
from engine.evidence.features import Seen, features, surprise, value_spans
from engine.evidence.reader import Reader, scored
from engine.grading.cross_teacher import other_teachers
from engine.grading.grader import Grader
from engine.inference.engine import Lost
from engine.inference.fake import FakeEngine
from engine.inference.token_budget import usage_in
from engine.judges.judge import Judge
from engine.records.judge import JudgeCalibration

ACCEPT = {"accept": {"confidence": 0.6}}


def calibration_of(grader: Grader) -> JudgeCalibration:
    assert grader.calibration and grader.calibration.evidence
    return grader.calibration


def test_likely_answers_are_trusted_and_unlikely_ones_go_to_review(tmp_path, monkeypatch):
    think(monkeypatch)
    grader = Grader(spec(tmp_path, gold(120, clear=3), calibrate={"folds": 3}, **ACCEPT))
    rows = grader(answers(-0.01, -0.1, -1.0, -8.0))
    confidence = rows["confidence"].to_pylist()
    assert confidence == sorted(confidence, reverse=True) and confidence[0] > 0.8 > 0.4 > confidence[-1]
    assert rows["pool"].to_pylist()[0] == "train" and rows["pool"].to_pylist()[-1] == "review"
    assert rows["reasons"].to_pylist()[-1] == ["low_confidence"]
    assert rows["judge"].to_pylist() == ["evidence"] * 4 and rows["score"].to_pylist() == [None] * 4
    calibration = calibration_of(grader)
    assert calibration.agreement.auc and calibration.agreement.auc.value > 0.9
    assert calibration.agreement.ece and calibration.agreement.ece.value < 0.15
    assert calibration.folds == 3


def test_labelled_items_are_read_once_and_no_model_is_loaded_afterwards(tmp_path, monkeypatch):
    read = think(monkeypatch)
    one = spec(tmp_path, gold(40), **ACCEPT)
    first = Grader(one)(answers(-0.01, -3.0))
    assert len(read) == 40 == usage_in(one.client.budget)["evidence"].answers
    again = Grader(one)
    assert again(answers(-0.01, -3.0)).equals(first) and len(read) == 40
    other = Grader(spec(tmp_path, gold(40), of=("logprob",), **ACCEPT))  # another calibration, the same readings
    assert calibration_of(other).bound_to != calibration_of(again).bound_to and len(read) == 40


def test_calibration_without_a_reading_of_each_item_is_not_kept(tmp_path, monkeypatch):
    read = think(monkeypatch)
    whole, one = FakeEngine.distributions, spec(tmp_path, gold(40))

    def distributions(self, targets, k):
        return [Lost() if target.text.startswith("answer 7 ") else whole(self, [target], k)[0] for target in targets]

    monkeypatch.setattr(FakeEngine, "distributions", distributions)
    with pytest.raises(ModelError, match=r"evidence \(fake\) did not answer 1 questions about .*One ends with 'answer 7"):
        calibration_of(Grader(one))
    monkeypatch.setattr(FakeEngine, "distributions", whole)
    assert len(read) == 39 and calibration_of(Grader(one)) and len(read) == 40


def test_what_an_item_holds_is_not_read_unless_the_teacher_is_another(tmp_path, monkeypatch):
    read = think(monkeypatch)
    items = gold(30)
    one = spec(tmp_path / "one", items)
    assert one.evidence
    rows = [
        {"prompt_id": "p", "messages": [{"role": "user", "content": each["input"]}], "text": each["input"], "task_unit": "form",
         "answer": each["answer"]} for each in items
    ]  # fmt: skip
    found = [scored(each) for each in Reader(one.evidence.teachers["t"])(rows, payee="x")]
    items = [{**each, "scored": known and known.model_dump()} for each, known in zip(items, found, strict=True)]
    read.clear()
    kept = calibration_of(Grader(spec(tmp_path / "two", items)))
    assert not read
    changed = [{**each, "scored": each["scored"] | {"key": "of another model"}} for each in items]
    assert calibration_of(Grader(spec(tmp_path / "three", changed))).items == kept.items and len(read) == 30


def test_order_of_the_items_changes_nothing(tmp_path, monkeypatch):
    think(monkeypatch)
    items = gold(60)
    one = calibration_of(Grader(spec(tmp_path / "one", items)))
    other = calibration_of(Grader(spec(tmp_path / "two", items[::-1])))
    assert one.evidence == other.evidence and one.agreement == other.agreement and one.curve == other.curve
    assert {each.id: each for each in one.items} == {each.id: each for each in other.items}


def test_answer_without_a_logprob_gets_the_model_without_it(tmp_path, monkeypatch):
    think(monkeypatch)
    of = ("logprob", "agreement")
    grader = Grader(spec(tmp_path, gold(120, clear=3), of=of, **ACCEPT))
    known, unknown = grader(answers(-0.01, None))["confidence"].to_pylist()
    alone = Grader(spec(tmp_path / "alone", gold(120, clear=3), of=("agreement",), **ACCEPT))
    assert unknown == pytest.approx(alone(answers(None))["confidence"].to_pylist()[0]) != known


def test_answer_of_which_nothing_is_known_goes_to_review(tmp_path, monkeypatch):
    think(monkeypatch)
    rows = Grader(spec(tmp_path, gold(40), of=("logprob",)))(answers(None))
    assert rows["confidence"].to_pylist() == [None] and rows["reasons"].to_pylist() == [["judge_unreadable"]]
    assert rows["judge_decides"].to_pylist() == [False]


def test_evidence_below_the_minimum_decides_nothing(tmp_path, monkeypatch):
    think(monkeypatch)
    grader = Grader(spec(tmp_path, gold(60, clear=0), of=("logprob",), calibrate={"minimum": {"auc": 0.8}}))
    rows = grader(answers(-50.0))
    assert rows["pool"].to_pylist() == ["train"] and rows["judge_decides"].to_pylist() == [False]
    assert "auc" in calibration_of(grader).why[0]


@pytest.mark.parametrize("wrong", [0.0, 1.0])
def test_labels_that_are_all_the_same_are_refused(tmp_path, monkeypatch, wrong):
    think(monkeypatch)
    with pytest.raises(InputError, match="expected some of each"):
        Grader(spec(tmp_path, gold(20, wrong=wrong)))(answers(-1.0))


def test_evidence_that_is_the_same_for_all_items_is_refused_or_left_out(tmp_path, monkeypatch):
    think(monkeypatch)
    items = [{**each, "samples": {"t": [each["answer"]]}} for each in gold(40)]
    kinds = {kind.name: kind for kind in calibration_of(Grader(spec(tmp_path, items))).evidence.kinds}
    assert kinds["agreement"].why == "the same for every labelled item" and not kinds["agreement"].used
    with pytest.raises(InputError, match="none of the evidence"):
        Grader(spec(tmp_path / "alone", items, of=("agreement",)))(answers(-1.0))


def test_items_without_samples_leave_agreement_out(tmp_path, monkeypatch):
    think(monkeypatch)
    items = [{name: value for name, value in each.items() if name != "samples"} for each in gold(40)]
    kinds = {kind.name: kind.why for kind in calibration_of(Grader(spec(tmp_path, items))).evidence.kinds}
    assert kinds == {"logprob": "", "agreement": "known of no labelled item"}


def test_items_that_fail_a_check_are_left_out(tmp_path, monkeypatch):
    think(monkeypatch)
    items = gold(40)
    fails = {"checks": [{"type": "policy", "banned": ["answer 7 worth"]}]}
    fit = calibration_of(Grader(spec(tmp_path, items, **fails))).evidence
    assert fit.failed_checks == 1 and fit.items == 39


def test_planted_items_count_only_where_teachers_wrote_too_few(tmp_path, monkeypatch):
    think(monkeypatch)
    planted = [
        {**each, "input": f"x{each['input']}", "group": f"x{each['group']}"} for each in gold(40, seed=1, wrong=1, author="")
    ]
    few, many = gold(8, wrong=0.2) + planted, gold(80) + planted
    one, other = (calibration_of(Grader(spec(tmp_path / str(len(items)), items))).evidence for items in (few, many))
    assert one.measured_on == "labelled" and one.own == 8
    assert other.measured_on == "own" and other.own == 80
    assert calibration_of(Grader(spec(tmp_path / str(len(many)), many))).agreement.ece.n == 80


def test_rubric_is_asked_where_the_free_evidence_leaves_doubt(tmp_path, monkeypatch):
    think(monkeypatch)
    items = gold(120, clear=1.0)
    right = {each["answer"] for each in items if each["label"] == "right"}
    read = rate(monkeypatch, lambda asked: [0.1, 0.9] if asked.partition("FORM ")[2].removesuffix(" END") in right else [0.9, 0.1])
    section = {"rubrics": [RUBRIC], "evidence": {"uncertain_between": [0.1, 0.9]}, **ACCEPT}
    grader = Grader(with_rubric(spec(tmp_path, items, of=("logprob",), **section)))
    fit = calibration_of(grader).evidence
    assert fit.free and fit.free.auc and calibration_of(grader).agreement.auc.value > fit.free.auc.value
    assert {kind.name: kind.used for kind in fit.kinds}["rubric:j"]
    worth = {kind.name: kind for kind in fit.kinds}["rubric:j"]
    assert worth.worth and worth.worth.low > 0 and worth.tokens == 2
    read.clear()
    rows = grader(answers(-1e-9, -0.5, -1000.0, -0.6))
    asked = [bool(scores) for scores in rows["dimension_scores"].to_pylist()]
    assert asked[1] and asked[3] and sum(asked) == len(read) < 4
    assert None not in rows["confidence"].to_pylist()


def test_rubric_that_knows_nothing_is_asked_about_labelled_items_alone(tmp_path, monkeypatch):
    think(monkeypatch)
    read = rate(monkeypatch, lambda asked: [0.5, 0.5])
    grader = Grader(with_rubric(spec(tmp_path, gold(60, clear=3), of=("logprob",), rubrics=[RUBRIC], **ACCEPT)))
    rows = grader(answers(-0.1, -5.0))
    assert len(read) == 60 and rows["dimension_scores"].to_pylist() == [[], []]
    kinds = {kind.name: kind.why for kind in calibration_of(grader).evidence.kinds}
    assert kinds["rubric:j"] == "the same for every labelled item"


def test_a_reader_reads_every_answer_as_its_own(tmp_path, monkeypatch):
    read = think(monkeypatch)
    section = {"evidence": {"readers": [READER.model_dump(mode="json")]}, **ACCEPT}
    one = spec(tmp_path, gold(80, clear=3), of=("length",), **section)
    rows = Grader(one)(answers(-9, -9, answer="right 1 worth -0.01"))
    assert rows["dimension_scores"].to_pylist()[0][0]["rubric"] == "r" and len(set(read)) == 81
    assert usage_in(one.client.budget)["r"].answers == 82
    assert rows["confidence"].to_pylist()[0] > 0.7


def test_numbers_of_an_answer_are_those_counted_by_hand():
    answer = '{"a":"7","b":null}'
    pieces = [
        ('{"', -0.1),
        ("a", -0.2),
        ('":"', -0.3),
        ("7", -1.0),
        ('","', -0.4),
        ("b", -0.5),
        ('":', -0.6),
        ("null", -2.0),
        ("}", -0.7),
    ]
    ends = np.cumsum([len(piece) for piece, _ in pieces]).tolist()
    tokens = [{"end": end, "logprob": logprob} for end, (_, logprob) in zip(ends, pieces, strict=True)]
    tokens.append({"end": len(answer), "logprob": -0.2})
    of = ("logprob", "mean_logprob", "least_logprob", "field_logprobs", "least_field")
    numbers = features(of, Seen(answer, fields=("a", "b", "c"), tokens=tokens))
    total = sum(token["logprob"] for token in tokens)
    assert numbers == pytest.approx(
        {
            "logprob": surprise(total),
            "mean_logprob": surprise(total / 10),
            "least_logprob": surprise(-2.0),
            "field_logprobs:a": surprise(-0.3 - 1.0 - 0.4),  # the tokens beside it hold its quotation marks
            "field_logprobs:b": surprise(-2.0),
            "least_field": surprise(-2.0),
        }
    )


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":}', '{"a" 1}', "{'a': 1}", "no JSON", '{"a":1', "{" * 5000])
def test_text_that_is_no_object_has_no_fields(text):
    assert value_spans(text) in ({}, {"a": (5, 6)})


def test_fields_are_found_in_any_layout():
    text = ' { "a" : "x,}\\" y" ,\n "b":{"c":[1, 2]}, "a": null}'
    spans = value_spans(text)
    assert {name: json.loads(text[start:end]) for name, (start, end) in spans.items()} == {"a": None, "b": {"c": [1, 2]}}


def with_rubric(one):
    import dataclasses

    rubric = one.section.rubrics[0]
    client = dataclasses.replace(one.client, model=rubric.model, payee=rubric.name)
    return dataclasses.replace(one, clients={rubric.name: client})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"evidence": {}}, "needs labelled items"),
        ({"evidence": {"of": []}}, "at least 1 item"),
        ({"evidence": {"of": ["logprob", "logprob"]}}, "each kind once"),
        ({"evidence": {"uncertain_between": [0.9, 0.1]}}, "lower number first"),
        ({"evidence": {"uncertain_between": [0.1, 0.9]}, "calibrate": {"gold": gold(8)}}, "neither rubrics nor readers"),
        ({"evidence": {}, "audit": {}, "calibrate": {"gold": gold(8)}}, "audit: tests rubrics"),
        ({"evidence": {"of": ["luck"]}}, "logprob"),
        ({"evidence": {"readers": [{"name": "r", "model": {"type": "labels"}}]}}, "labels, which no model reads"),
    ],
)
def test_sections_that_cannot_work_are_refused(section, message):
    with pytest.raises(ValueError, match=message):
        Judges.model_validate(section)


def test_section_without_evidence_is_dumped_as_before():
    dumped = Judges.model_validate({"calibrate": {"gold": [{**each, "samples": {}, "group": ""} for each in gold(8)]}}).model_dump()
    assert "evidence" not in dumped
    assert set(dumped["calibrate"]["gold"][0]) == {"input", "answer", "label", "reference", "error", "author", "task_unit"}


def test_other_teachers_count_by_their_most_frequent_answer():
    rows = [
        {"prompt_id": "p", "teacher": teacher, "answer": answer}
        for teacher, answer in (("a", "1"), ("a", "1"), ("a", "2"), ("b", "1"), ("c", "3"), ("c", "1"))
    ]
    rows.append({"prompt_id": "q", "teacher": "a", "answer": "1"})
    sound = [True, True, True, True, True, False, True]
    assert other_teachers(rows, sound) == [0.5, 0.5, 0.0, 0.5, 0.0, 1.0, None]
    item = {"a": ("1", "1", "2"), "b": ("1",), "c": ("3",)}
    assert labelled.other_teachers("1", "a", item) == 0.5 and labelled.other_teachers("1", "a", {"a": ("1",)}) is None


@pytest.mark.parametrize(("answer", "share"), [("1", 2 / 3), ("2", 1 / 3), ("9", 1 / 3)])
def test_planted_answer_counts_as_one_of_the_samples(answer, share):
    assert labelled.sampled_agreement(answer, ["1", "1", "2"]) == pytest.approx(share)
    assert labelled.sampled_agreement(answer, []) is None


def test_distance_is_to_the_nearest_prompt_of_another_group():
    prompts = LabelledPrompts(["red kites", "red kites!", "blue boats"], ["a", "a", "b"])
    own = prompts.distances(["red kites", "blue boats"], ["a", "b"])
    assert own[0] > 0.8 < own[1]
    assert prompts.distances(["red kites", "blue boat"]) == [0.0, pytest.approx(0.2, abs=0.2)]


def test_calibration_is_bound_to_the_checks_and_to_the_teacher(tmp_path):
    items = gold(8)
    one, other = spec(tmp_path, items), spec(tmp_path, items, checks=[{"type": "json_schema"}])
    names = {judge_calibration.binding(Judge(each)).judge for each in (one, other, spec(tmp_path, items, of=("length",)))}
    assert len(names) == 3


def test_confidence_can_be_computed_for_no_answers(tmp_path, monkeypatch):
    think(monkeypatch)
    assert Confidence(Judge(spec(tmp_path, gold(40))))([]) == []
