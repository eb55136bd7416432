import dataclasses
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checks import TAGS, CheckResult
from engine.contract.judges import Accept, Judges, Rubric
from engine.contract.models import FakeModel
from engine.contract.profile import Pool
from engine.contract.specialist import Output, Specialist, TaskUnit
from engine.grading.agreement import agreement
from engine.grading.grader import Grader
from engine.grading.routing import REASONS, Evidence, route
from engine.inference.fake import FakeEngine
from engine.judges.grader_spec import GraderSpec
from engine.rows import ANSWER, CANDIDATE, FINISH_REASONS, POOLS
from engine.storage.shards import Folder

RIGHT = '{"number": "7", "item": null}'
ABSTAINS = '{"number": null, "item": null}'
FAILED = CheckResult("grounded", False, "ungrounded", "item=x")
BROKEN = CheckResult("json_schema", False, "not_json", "x")
SCHEMA = {"type": "object", "required": ["number", "item"]}


def seen(answer=RIGHT, finish_reason="stop", outcomes=(), agreement=1.0, confidence=0.9, is_judged=True):
    return Evidence(answer, finish_reason, outcomes, agreement, confidence, is_judged)


@pytest.mark.parametrize(
    ("evidence", "pool", "reasons"),
    [
        (seen(), "train", ["accepted"]),
        (seen(answer=ABSTAINS), "refusal", ["accepted", "abstains"]),
        (seen(finish_reason="length"), "failure", ["finish_reason_length"]),
        (seen(outcomes=[BROKEN, FAILED]), "failure", ["not_json", "ungrounded"]),
        (seen(outcomes=[FAILED]), "contrast", ["ungrounded"]),
        (seen(agreement=0.4), "hard", ["samples_disagree"]),
        (seen(confidence=None), "review", ["judge_unreadable"]),
        (seen(confidence=0.2), "review", ["low_confidence"]),
        (seen(confidence=None, is_judged=False), "train", ["accepted"]),
        (
            seen(finish_reason="length", confidence=1.0, agreement=1.0),
            "failure",
            ["finish_reason_length"],
        ),  # cut off: never accepted
    ],
)
def test_route_gives_the_pool_and_why(evidence, pool, reasons):
    assert route(evidence, Accept(confidence=0.5, agreement=0.5)) == (pool, reasons)


@given(
    st.sampled_from([RIGHT, ABSTAINS, "text", ""]),
    st.sampled_from(FINISH_REASONS),
    st.lists(st.builds(CheckResult, st.just("any"), st.just(False), st.sampled_from(TAGS[1:])), max_size=3),
    st.none() | st.floats(0, 1),
    st.none() | st.floats(0, 1),
    st.booleans(),
    st.builds(Accept, confidence=st.floats(0, 1), agreement=st.floats(0, 1)),
)
def test_route_sends_every_answer_to_one_pool_with_a_reason(answer, finish_reason, outcomes, agreed, confidence, is_judged, accept):
    found = route(Evidence(answer, finish_reason, outcomes, agreed, confidence, is_judged), accept)
    assert found.pool in POOLS
    assert found.reasons and set(found.reasons) <= {*REASONS, *TAGS}
    assert found.pool not in ("train", "refusal") or (finish_reason == "stop" and not outcomes)


def test_agreement_counts_sound_samples_of_the_same_prompt():
    groups = ["p", "p", "p", "p", "q"]
    answers = ['{"a":1}', '{ "a": 1 }', '{"a":2}', '{"a":2}', '{"a":2}']
    assert agreement(groups, answers, [True, True, True, False, True]) == [2 / 3, 2 / 3, 1 / 3, None, 1.0]


RUBRIC = Rubric(
    name="judge", model=FakeModel(type="fake"), system="You check.", question="{text} => {answer}?", scale=("bad", "good")
)


def answers(*rows):
    base = {name: None for name in ANSWER.names}
    plain = {"task_unit": "form", "text": "send 7", "teacher": "t", "finish_reason": "stop", "redacted": [], "error": ""}
    return pa.Table.from_pylist([base | plain | row for row in rows], schema=ANSWER)


def bar(tmp_path, **section):
    unit = TaskUnit(name="form", kind="extraction", output=Output(json_schema=SCHEMA))
    return GraderSpec(
        section=Judges.model_validate({"checks": [{"type": "json_schema"}, {"type": "grounded"}], **section}),
        specialist=Specialist(goal="g", task_units=(unit,)),
        pool=Pool(),
        ledger=Folder(str(tmp_path / "ledger")),
        markers=Folder(str(tmp_path / "marks")),
        budget=Folder(str(tmp_path / "budget")),
    )


def is_loaded(grader):
    assert grader.judge is not None
    return any(judge.client.engine for judge in grader.judge.clients.values())


def test_grader_sends_each_answer_to_its_pool(tmp_path):
    grader = Grader(bar(tmp_path, rubrics=[RUBRIC.model_dump()]))
    graded = grader(
        answers(
            {"prompt_id": "aa", "answer_id": "1", "answer": RIGHT},
            {"prompt_id": "ab", "answer_id": "2", "answer": '{"number": "8", "item": null}'},
            {"prompt_id": "ac", "answer_id": "3", "answer": "", "finish_reason": "too_long", "error": "9000 tokens"},
            {"prompt_id": "ad", "answer_id": "4", "answer": ABSTAINS},
        )
    )
    assert graded.schema == CANDIDATE
    assert graded["pool"].to_pylist() == ["train", "contrast", "failure", "refusal"]
    assert graded["score"].to_pylist() == [1.0, None, None, 1.0]  # the judge is not asked about what failed


def test_grader_marks_an_answer_once_over_restarts(tmp_path):
    rows = answers({"prompt_id": "aa", "answer_id": "1", "answer": RIGHT})
    given = bar(tmp_path, rubrics=[RUBRIC.model_dump()])
    Grader(given)(rows)
    again = Grader(given)
    assert again(rows)["score"].to_pylist() == [1.0]
    assert not is_loaded(again)


def test_grader_with_other_rubric_marks_anew(tmp_path):
    rows = answers({"prompt_id": "aa", "answer_id": "1", "answer": RIGHT})
    Grader(bar(tmp_path, rubrics=[RUBRIC.model_dump()]))(rows)
    other = Grader(bar(tmp_path, rubrics=[RUBRIC.model_dump() | {"system": "You are strict."}]))
    other(rows)
    assert is_loaded(other)


def rivals(tmp_path, *rows, competes=True, **section):
    """Answers of two teachers to one prompt, marked one after the other as `marks` says."""
    given = dataclasses.replace(bar(tmp_path, rubrics=[RUBRIC.model_dump()], **section), competes=competes)
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
        def choice_probs(self, chats, choices):
            said = [chat[-1]["content"].partition(" => ")[2] for chat in chats]
            found = [next(mark for key, mark in given.items() if key in answer) for answer in said]
            return [[1 - mark, mark] for mark in found]

        monkeypatch.setattr(FakeEngine, "choice_probs", choice_probs)

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
    unrouted = answers({"prompt_id": "aa", "answer_id": "1", "answer": "", "finish_reason": "unrouted", "teacher": ""})
    graded = Grader(bar(tmp_path, rubrics=[RUBRIC.model_dump()]))(unrouted)
    assert (graded["pool"].to_pylist(), graded["reasons"].to_pylist()) == (["review"], [["unroutable"]])


def test_judge_is_asked_in_even_batches(tmp_path, monkeypatch):
    asked, choice_probs = [], FakeEngine.choice_probs
    monkeypatch.setattr(
        FakeEngine, "choice_probs", lambda self, chats, marks: asked.append(len(chats)) or choice_probs(self, chats, marks)
    )
    given = dataclasses.replace(bar(tmp_path, rubrics=[RUBRIC.model_dump()]), pool=Pool(batch=4))
    said = [
        {"prompt_id": f"a{n}", "answer_id": str(n), "answer": json.dumps({"number": "7", "item": None, "n": n})} for n in range(9)
    ]
    given = dataclasses.replace(given, section=given.section.model_copy(update={"checks": ()}))
    assert Grader(given)(answers(*said))["score"].to_pylist() == [1.0] * 9
    assert asked == [3, 3, 3]
    assert len(Folder(str(tmp_path / "ledger")).files()) == 1
