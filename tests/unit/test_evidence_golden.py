"""A contract without `judges.evidence` gives the rows that it gave before the key existed."""

import json

from judge_world import Character, calibrated, grader_spec, think

from engine.grading.grader import Grader
from engine.rows import ANSWER, content_id, from_rows
from tests.planted import planted

GOLD = planted(30)
GOLDEN = ["8c564c0ea7b344f9c184566d291ecaf2", "c55c42934dea36b1e1bc2c5790f817ad", "0ddc0b087d9a02c540b37f4dd2af2394"]
"""Of the rows, the calibration, and what it is bound to."""
COLUMNS = ["answer_id", "agreement", "judge", "score", "confidence", "dimension_scores", "judge_decides", "pool", "reasons"]


def test_rows_and_calibration_of_a_rubric_alone(tmp_path, monkeypatch):
    think(monkeypatch, Character())
    spec = grader_spec(tmp_path, GOLD, accept={"confidence": 0.6, "agreement": 0.6}, audit={"items": 8})
    plain = {"task_unit": "form", "teacher": "t", "finish_reason": "stop", "redacted": [], "error": "", "difficulty": "easy"}
    answers = [
        plain | {"prompt_id": f"p{number // 2}", "answer_id": f"a{number}", "answer": item["answer"], "text": item["input"]}
        for number, item in enumerate(GOLD[:24])
    ]
    rows = Grader(spec)(from_rows(answers, ANSWER)).select(COLUMNS).to_pylist()
    calibration = calibrated(spec).model_dump(mode="json")
    assert [digest(each) for each in (rows, calibration, calibration["bound_to"])] == GOLDEN


def digest(value):
    """Return the hash of JSON whose numbers are rounded: the last digits of a fit depend on the machine."""
    return content_id(json.dumps(json.loads(json.dumps(value), parse_float=lambda digits: round(float(digits), 3)), sort_keys=True))
