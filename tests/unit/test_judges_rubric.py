"""What a rubric asks, and what it makes of the answers: dimensions, anchors, references, several rubrics."""

import pyarrow as pa
import pytest
from judge_world import RUBRIC, grader_spec, think
from pydantic import ValidationError

from engine.contract.judges import Judges, Rubric
from engine.grading.grader import Grader
from engine.judges.judge import Judge
from engine.judges.judge_client import ChoiceProbs
from engine.judges.rubric import Case, dimension_scores, requests, score
from engine.rows import ANSWER, from_rows, grow

CASE = Case("aa", "send 7", '{"n": 7}')
DIMENSIONS = [
    {"name": "right", "question": "Is it right?", "anchors": {"bad": "one field is wrong", "good": "all is right"}, "weight": 3},
    {"name": "short", "question": "Is it short?", "scale": ["no", "so", "yes"]},
]


def rubric(**options):
    return Rubric.model_validate({**RUBRIC, **options})


def prompts(section, case=CASE):
    return [request.chat[-1]["content"] for request in requests(section, case)]


def test_question_keeps_braces_of_text_and_answer():
    case = Case("aa", "send {answer} and {text}", '{"a": 1}')
    assert prompts(rubric(question="{text} => {answer}?"), case) == ['send {answer} and {text} => {"a": 1}?']


def test_each_dimension_is_a_question_below_the_rubrics_own_with_its_anchors():
    section = rubric(question="{text}: {answer}", dimensions=DIMENSIONS)
    assert prompts(section) == [
        'send 7: {"n": 7}\n\nIs it right?\nbad: one field is wrong\ngood: all is right',
        'send 7: {"n": 7}\n\nIs it short?',
    ]
    assert [one.choices for one in requests(section, CASE)] == [("bad", "good"), ("no", "so", "yes")]


def test_score_is_the_weighted_mean_of_the_dimensions():
    section = rubric(dimensions=DIMENSIONS)
    result = dimension_scores([ChoiceProbs([0.2, 0.8]), ChoiceProbs([0.0, 1.0, 0.0])])
    assert result == [0.8, 0.5] and score(section, result) == pytest.approx((3 * 0.8 + 0.5) / 4)
    assert score(section, [0.8, None]) is None


def test_reference_is_shown_where_there_is_one_and_its_line_goes_where_there_is_none():
    section = rubric(question="{text}\nRight: {reference}\nSaid: {answer}")
    assert prompts(section, CASE._replace(reference="7")) == ['send 7\nRight: 7\nSaid: {"n": 7}']
    assert prompts(section) == ['send 7\nSaid: {"n": 7}']


def test_task_unit_may_have_a_question_of_its_own():
    section = rubric(question="Right? {answer}", by_task_unit={"decide": "Just? {answer}"})
    assert [prompts(section, CASE._replace(task_unit=unit)) for unit in ("form", "decide")] == [
        ['Right? {"n": 7}'],
        ['Just? {"n": 7}'],
    ]


def test_worked_examples_have_a_mark_for_each_dimension():
    shot = {"text": "a", "answer": "b", "rating": {"right": "bad", "short": "yes"}}
    section = rubric(question="{text} {answer}", dimensions=DIMENSIONS, shots=[shot])
    assert [one.chat[2]["content"] for one in requests(section, CASE)] == ["bad", "yes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": [DIMENSIONS[0], DIMENSIONS[0]]}, r"dimensions\n.*names must differ"),
        ({"dimensions": [{**DIMENSIONS[0], "anchors": {"fair": "x"}}]}, r"anchors of \['fair'\], expected values of the scale"),
        (
            {"shots": [{"text": "a", "answer": "b", "rating": "fair"}]},
            r"shots.0.rating: found 'fair', expected one of \['bad', 'good'\]",
        ),
        ({"dimensions": DIMENSIONS, "shots": [{"text": "a", "answer": "b", "rating": "bad"}]}, "for right one of"),
    ],
)
def test_rubric_that_cannot_be_asked_is_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        rubric(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rubrics": [RUBRIC, RUBRIC]}, r"rubrics\n.*names must differ"),
        ({"rubrics": [RUBRIC], "ranking": {"rubric": "k", "question": "?"}}, "ranking.rubric: found 'k'"),
        ({"ranking": {"question": "?"}}, "ranking.rubric"),
        ({"rubrics": [RUBRIC], "audit": {}}, "audit: needs labelled items"),
    ],
)
def test_judges_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        Judges.model_validate(options)


def test_several_rubrics_are_a_panel_with_their_disagreement(tmp_path, monkeypatch):
    think(monkeypatch, lambda asked: [0.6, 0.4] if asked.startswith("STRICT") else [0.1, 0.9])
    strict = {**RUBRIC, "name": "k", "question": "STRICT {answer}", "weight": 4}
    [result] = Judge(grader_spec(tmp_path, rubrics=[RUBRIC, strict])).score([CASE])
    assert (result.score, result.rubric_spread) == (pytest.approx((0.9 + 4 * 0.4) / 5), pytest.approx(0.5))
    assert [(one["rubric"], one["dimension"]) for one in result.dimension_scores] == [("j", ""), ("k", "")]


def test_one_rubric_does_not_disagree_with_itself(tmp_path, monkeypatch):
    think(monkeypatch, lambda asked: [0.1, 0.9])
    [result] = Judge(grader_spec(tmp_path, rubrics=[{**RUBRIC, "dimensions": [{**DIMENSIONS[0]}]}])).score([CASE])
    assert result.rubric_spread is None and [one["dimension"] for one in result.dimension_scores] == ["right"]


def test_changed_dimension_is_asked_again_and_the_others_are_not(tmp_path, monkeypatch):
    read = think(monkeypatch, lambda asked: [0.1, 0.9])
    first = {"name": "a", "question": "A?"}
    Judge(grader_spec(tmp_path, rubrics=[{**RUBRIC, "dimensions": [first, {"name": "b", "question": "B?"}]}])).score([CASE])
    other = [{**first, "weight": 7}, {"name": "b", "question": "Better?"}]
    Judge(grader_spec(tmp_path, rubrics=[{**RUBRIC, "name": "renamed", "dimensions": other}])).score([CASE])
    assert [text.rpartition("\n\n")[2] for text in read] == ["A?", "B?", "Better?"]


def test_answers_with_references_are_marked_by_them(tmp_path, monkeypatch):
    read = think(monkeypatch, lambda asked: [0.1, 0.9])
    row = {
        "prompt_id": "aa",
        "answer_id": "f0",
        "answer": "8",
        "text": "send",
        "task_unit": "form",
        "finish_reason": "stop",
        "teacher": "t",
    }
    schema = ANSWER if "reference" in ANSWER.names else grow(ANSWER, ("reference", pa.string()))
    rows = from_rows([{**row, "reference": "7"}], schema)
    Grader(grader_spec(tmp_path, rubrics=[{**RUBRIC, "question": "Right: {reference}\nSaid: {answer}"}]))(rows)
    assert read == ["Right: 7\nSaid: 8"]
