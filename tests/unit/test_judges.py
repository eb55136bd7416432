import dataclasses
import json
import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checks import TAGS, Outcome
from engine.contract.judges import Accept, Calibrate, Judges, Rubric
from engine.contract.models import FakeModel
from engine.contract.profile import Pool
from engine.contract.specialist import Output, Specialist, TaskUnit
from engine.errors import InputError
from engine.judges import rubric as rubrics
from engine.judges.agreement import agreement
from engine.judges.calibrate import fit
from engine.judges.grader import Bar, Grader, calibration_of
from engine.judges.pools import REASONS, Evidence, route
from engine.rows import ANSWER, CANDIDATE, ENDINGS, POOLS
from engine.shards import Folder

RIGHT = '{"number": "7", "item": null}'
ABSTAINS = '{"number": null, "item": null}'
FAILED = Outcome("grounded", False, "ungrounded", "item=x")
BROKEN = Outcome("json_schema", False, "not_json", "x")
SCHEMA = {"type": "object", "required": ["number", "item"]}


def seen(answer=RIGHT, ending="stop", outcomes=(), agreement=1.0, confidence=0.9, is_judged=True):
    return Evidence(answer, ending, outcomes, agreement, confidence, is_judged)


@pytest.mark.parametrize(
    ("evidence", "pool", "reasons"),
    [
        (seen(), "train", ["accepted"]),
        (seen(answer=ABSTAINS), "refusal", ["accepted", "abstains"]),
        (seen(ending="length"), "failure", ["ending_length"]),
        (seen(outcomes=[BROKEN, FAILED]), "failure", ["not_json", "ungrounded"]),
        (seen(outcomes=[FAILED]), "contrast", ["ungrounded"]),
        (seen(agreement=0.4), "hard", ["samples_disagree"]),
        (seen(confidence=None), "review", ["judge_unreadable"]),
        (seen(confidence=0.2), "review", ["low_confidence"]),
        (seen(confidence=None, is_judged=False), "train", ["accepted"]),
        (seen(ending="length", confidence=1.0, agreement=1.0), "failure", ["ending_length"]),  # cut off: never accepted
    ],
)
def test_route_gives_the_pool_and_why(evidence, pool, reasons):
    assert route(evidence, Accept(confidence=0.5, agreement=0.5)) == (pool, reasons)


@given(
    st.sampled_from([RIGHT, ABSTAINS, "text", ""]),
    st.sampled_from(ENDINGS),
    st.lists(st.builds(Outcome, st.just("any"), st.just(False), st.sampled_from(TAGS[1:])), max_size=3),
    st.none() | st.floats(0, 1),
    st.none() | st.floats(0, 1),
    st.booleans(),
    st.builds(Accept, confidence=st.floats(0, 1), agreement=st.floats(0, 1)),
)
def test_route_sends_every_answer_to_one_pool_with_a_reason(answer, ending, outcomes, agreed, confidence, is_judged, accept):
    found = route(Evidence(answer, ending, outcomes, agreed, confidence, is_judged), accept)
    assert found.pool in POOLS
    assert found.reasons and set(found.reasons) <= {*REASONS, *TAGS}
    assert found.pool not in ("train", "refusal") or (ending == "stop" and not outcomes)


def test_agreement_counts_sound_samples_of_the_same_prompt():
    groups = ["p", "p", "p", "p", "q"]
    answers = ['{"a":1}', '{ "a": 1 }', '{"a":2}', '{"a":2}', '{"a":2}']
    assert agreement(groups, answers, [True, True, True, False, True]) == [2 / 3, 2 / 3, 1 / 3, None, 1.0]


def test_fit_maps_higher_scores_to_higher_probabilities():
    learnt = fit([0.1, 0.2, 0.3, 0.7, 0.8, 0.9], [False, False, False, True, True, True])
    assert learnt.auc == 1.0 and learnt.base_rate == 0.5
    assert learnt(0.1) < 0.5 < learnt(0.9)
    assert all(math.isfinite(learnt(score)) for score in (0.0, 1.0))


def test_fit_refuses_labels_that_are_all_the_same():
    with pytest.raises(InputError, match="expected right and wrong"):
        fit([0.1, 0.2], [True, True])


RUBRIC = Rubric(
    name="judge", model=FakeModel(type="fake"), system="You check.", question="{text} => {answer}?", marks=("bad", "good")
)


def test_rubric_question_keeps_braces_of_text_and_answer():
    turn = rubrics.chat(RUBRIC, "send {answer} and {text}", '{"a": 1}')[-1]["content"]
    assert turn == 'send {answer} and {text} => {"a": 1}?'


def answers(*rows):
    base = {name: None for name in ANSWER.names}
    plain = {"task_unit": "form", "text": "send 7", "teacher": "t", "ending": "stop", "redacted": [], "error": ""}
    return pa.Table.from_pylist([base | plain | row for row in rows], schema=ANSWER)


def bar(tmp_path, **section):
    unit = TaskUnit(name="form", kind="extraction", output=Output(json_schema=SCHEMA))
    return Bar(
        section=Judges.model_validate({"checks": [{"type": "json_schema"}, {"type": "grounded"}], **section}),
        specialist=Specialist(goal="g", task_units=(unit,)),
        pool=Pool(),
        folder=None,
        ledger=Folder(str(tmp_path / "ledger")),
        marks=Folder(str(tmp_path / "marks")),
        purse=Folder(str(tmp_path / "purse")),
    )


def test_grader_sends_each_answer_to_its_pool(tmp_path):
    grader = Grader(bar(tmp_path, rubric=RUBRIC.model_dump()))
    graded = grader(
        answers(
            {"prompt_id": "aa", "answer_id": "1", "answer": RIGHT},
            {"prompt_id": "ab", "answer_id": "2", "answer": '{"number": "8", "item": null}'},
            {"prompt_id": "ac", "answer_id": "3", "answer": "", "ending": "too_long", "error": "9000 tokens"},
            {"prompt_id": "ad", "answer_id": "4", "answer": ABSTAINS},
        )
    )
    assert graded.schema == CANDIDATE
    assert graded["pool"].to_pylist() == ["train", "contrast", "failure", "refusal"]
    assert graded["score"].to_pylist() == [1.0, None, None, 1.0]  # the judge is not asked about what failed


def test_grader_marks_an_answer_once_over_restarts(tmp_path):
    rows = answers({"prompt_id": "aa", "answer_id": "1", "answer": RIGHT})
    given = bar(tmp_path, rubric=RUBRIC.model_dump())
    Grader(given)(rows)
    again = Grader(given)
    assert again(rows)["score"].to_pylist() == [1.0]
    assert again.judge is not None and again.judge.engine is None  # the second never loaded its model


def test_grader_with_other_rubric_marks_anew(tmp_path):
    rows = answers({"prompt_id": "aa", "answer_id": "1", "answer": RIGHT})
    Grader(bar(tmp_path, rubric=RUBRIC.model_dump()))(rows)
    other = Grader(bar(tmp_path, rubric=RUBRIC.model_dump() | {"system": "You are strict."}))
    other(rows)
    assert other.judge is not None and other.judge.engine is not None


def test_calibrated_judge_gives_a_probability(tmp_path):
    gold = [{"input": "send 7", "answer": RIGHT, "label": label} for label in ["right", "wrong"] * 5]
    given = bar(tmp_path, rubric=RUBRIC.model_dump(), calibrate=Calibrate.model_validate({"gold": gold}).model_dump())
    graded = Grader(given)(answers({"prompt_id": "aa", "answer_id": "1", "answer": RIGHT}))
    assert graded["confidence"].to_pylist()[0] == pytest.approx(0.5, abs=0.01)  # equal scores, half of them right


def rivals(tmp_path, *rows, competes=True, **section):
    """Answers of two teachers to one prompt, marked one after the other as `marks` says."""
    given = dataclasses.replace(bar(tmp_path, rubric=RUBRIC.model_dump(), **section), competes=competes)
    plain = {"prompt_id": "aa", "text": "send 7 or 8 or 77"}
    graded = Grader(given)(answers(*({**plain, "answer_id": str(index), **row} for index, row in enumerate(rows))))
    return list(zip(graded["pool"].to_pylist(), graded["reasons"].to_pylist(), strict=True))


SEVEN, EIGHT, LONGER = ({"answer": json.dumps({"number": number, "item": None})} for number in ("7", "8", "77"))
KEPT = {"relations": {"conflicts": "keep"}}
WON, LOST = ("train", ["accepted"]), ("contrast", ["outranked"])


@pytest.fixture
def marks(monkeypatch):
    """Let the judge give these marks to answers that contain the key."""

    def by(given):
        def score(engine, rubric, pairs):
            return [next(mark for key, mark in given.items() if key in answer) for _, answer in pairs]

        monkeypatch.setattr(rubrics, "score", score)

    return by


def test_of_competing_answers_the_most_trusted_stays(tmp_path, marks):
    marks({'"7"': 0.6, '"8"': 0.9})
    assert rivals(tmp_path, SEVEN, {**EIGHT, "teacher": "u"}) == [LOST, WON]


def test_answers_that_do_not_compete_all_stay(tmp_path, marks):
    marks({'"7"': 0.6, '"8"': 0.9})
    assert rivals(tmp_path, SEVEN, {**EIGHT, "teacher": "u"}, competes=False, pools=KEPT) == [WON, WON]


def test_of_equally_trusted_answers_the_one_its_teacher_repeats_stays(tmp_path, marks):
    marks({"": 0.9})
    other = {**EIGHT, "teacher": "u"}
    assert rivals(tmp_path, SEVEN, LONGER, other, other) == [LOST, LOST, WON, WON]


def test_of_equal_answers_the_shorter_stays_in_any_order(tmp_path, marks):
    marks({"": 0.9})
    assert rivals(tmp_path, {**LONGER, "teacher": "u"}, SEVEN) == [LOST, WON]
    assert rivals(tmp_path, SEVEN, {**LONGER, "teacher": "u"}) == [WON, LOST]


def test_whoever_says_the_same_as_the_winner_ties_with_it(tmp_path, marks):
    marks({"": 0.9})
    spaced = {"answer": RIGHT.replace(" ", ""), "teacher": "u"}
    assert rivals(tmp_path, SEVEN, spaced, {**EIGHT, "teacher": "v"}) == [WON, WON, LOST]


def test_prompts_do_not_compete_with_each_other(tmp_path, marks):
    marks({'"7"': 0.6, '"8"': 0.9})
    assert rivals(tmp_path, SEVEN, {**EIGHT, "prompt_id": "ab"}) == [WON, WON]


def test_only_accepted_answers_can_be_outranked(tmp_path, marks):
    marks({'"7"': 0.3, '"8"': 0.9})
    assert rivals(tmp_path, SEVEN, {**EIGHT, "teacher": "u"}, accept={"confidence": 0.5})[0] == ("review", ["low_confidence"])


def test_prompt_that_was_sent_to_nobody_waits_for_a_person(tmp_path):
    unrouted = answers({"prompt_id": "aa", "answer_id": "1", "answer": "", "ending": "unrouted", "teacher": ""})
    graded = Grader(bar(tmp_path, rubric=RUBRIC.model_dump()))(unrouted)
    assert (graded["pool"].to_pylist(), graded["reasons"].to_pylist()) == (["review"], [["unroutable"]])


def test_judge_is_asked_in_batches(tmp_path, monkeypatch):
    asked, score = [], rubrics.score
    monkeypatch.setattr(rubrics, "score", lambda engine, rubric, pairs: asked.append(len(pairs)) or score(engine, rubric, pairs))
    given = dataclasses.replace(bar(tmp_path, rubric=RUBRIC.model_dump()), pool=Pool(batch=2))
    said = [{"prompt_id": f"a{n}", "answer_id": str(n), "answer": RIGHT} for n in range(5)]
    assert Grader(given)(answers(*said))["score"].to_pylist() == [1.0] * 5
    assert asked == [2, 2, 1]
    assert len(Folder(str(tmp_path / "ledger")).files()) == 1


def gold_bar(tmp_path):
    gold = [{"input": "send 7", "answer": RIGHT + " " * n, "label": label} for n, label in enumerate(["right", "wrong"] * 5)]
    return bar(tmp_path, rubric=RUBRIC.model_dump(), calibrate={"gold": gold})


def test_judge_learns_its_calibration_at_its_first_mark_and_pays_for_it_once(tmp_path):
    given = gold_bar(tmp_path)
    assert calibration_of(given) is None
    Grader(given)(answers({"prompt_id": "ab", "answer_id": "2", "answer": "no form"}))
    assert calibration_of(given) is None  # nothing was worth a mark
    Grader(given)(answers({"prompt_id": "aa", "answer_id": "1", "answer": RIGHT}))
    assert calibration_of(given) is not None
    again = Grader(given)
    again(answers({"prompt_id": "aa", "answer_id": "1", "answer": RIGHT}))
    assert again.judge is not None and again.judge.engine is None


class Dead(BaseException):
    """The process is gone."""


def test_a_labelled_item_that_kills_the_judge_is_set_apart(tmp_path, monkeypatch):
    given, deaths = gold_bar(tmp_path), 0
    poison = given.section.calibrate.gold[4].answer

    def die(status):
        raise Dead(status)

    def score(engine, rubric, pairs):
        if poison in [answer for _, answer in pairs]:
            raise RuntimeError("the engine is dead")
        return [1.0 for _ in pairs]

    monkeypatch.setattr(rubrics, "score", score)
    while True:
        grader = Grader(given)
        assert grader.judge is not None
        grader.judge.trials.die = die
        try:
            graded = grader(answers({"prompt_id": "aa", "answer_id": "1", "answer": RIGHT}))
            break
        except Dead:
            deaths += 1
            assert deaths < 10
    assert graded["confidence"].to_pylist()[0] == pytest.approx(4 / 9, abs=0.01)  # without the item that kills


def test_confidence_is_the_same_whether_the_mark_is_new_or_from_the_ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(rubrics, "score", lambda engine, rubric, pairs: [1 / 3 + len(answer) / 7000 for _, answer in pairs])
    given, rows = gold_bar(tmp_path), answers({"prompt_id": "aa", "answer_id": "1", "answer": RIGHT})
    assert Grader(given)(rows).equals(Grader(given)(rows))
