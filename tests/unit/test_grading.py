import dataclasses
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_world import PLACES, change_clients, with_clients

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
from engine.storage.folder import Folder

RIGHT = '{"number": "7", "item": null}'
ABSTAINS = '{"number": null, "item": null}'
FAILED = CheckResult("grounded", False, "ungrounded", "item=x")
BROKEN = CheckResult("json_schema", False, "not_json", "x")
SCHEMA = {"type": "object", "required": ["number", "item"]}


def evidence(answer=RIGHT, finish_reason="stop", outcomes=(), agreement=1.0, confidence=0.9, is_judged=True):
    return Evidence(answer, finish_reason, outcomes, agreement, confidence, is_judged)


@pytest.mark.parametrize(
    ("evidence", "pool", "reasons"),
    [
        (evidence(), "train", ["accepted"]),
        (evidence(answer=ABSTAINS), "refusal", ["accepted", "abstains"]),
        (evidence(finish_reason="length"), "failure", ["finish_reason_length"]),
        (evidence(outcomes=[BROKEN, FAILED]), "failure", ["not_json", "ungrounded"]),
        (evidence(outcomes=[FAILED]), "contrast", ["ungrounded"]),
        (evidence(agreement=0.4), "hard", ["samples_disagree"]),
        (evidence(confidence=None), "review", ["judge_unreadable"]),
        (evidence(confidence=0.2), "review", ["low_confidence"]),
        (evidence(confidence=None, is_judged=False), "train", ["accepted"]),
        (
            evidence(finish_reason="length", confidence=1.0, agreement=1.0),
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
    result = route(Evidence(answer, finish_reason, outcomes, agreed, confidence, is_judged), accept)
    assert result.pool in POOLS
    assert result.reasons and set(result.reasons) <= {*REASONS, *TAGS}
    assert result.pool not in ("train", "refusal") or (finish_reason == "stop" and not outcomes)


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


def grader_spec(tmp_path, **section):
    unit = TaskUnit(name="form", kind="extraction", output=Output(json_schema=SCHEMA))
    judges = Judges.model_validate({"checks": [{"type": "json_schema"}, {"type": "grounded"}], **section})
    spec = GraderSpec(judges, Specialist(goal="g", task_units=(unit,)), Pool())
    return with_clients(spec, *(Folder(str(tmp_path / name)) for name in PLACES))


def is_loaded(grader):
    assert grader.judge is not None
    return any(judge.client.engine for judge in grader.judge.clients.values())


def test_grader_sends_each_answer_to_its_pool(tmp_path):
    grader = Grader(grader_spec(tmp_path, rubrics=[RUBRIC.model_dump()]))
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


def test_grader_scores_an_answer_once_over_restarts(tmp_path):
    rows = answers({"prompt_id": "aa", "answer_id": "1", "answer": RIGHT})
    spec = grader_spec(tmp_path, rubrics=[RUBRIC.model_dump()])
    Grader(spec)(rows)
    again = Grader(spec)
    assert again(rows)["score"].to_pylist() == [1.0]
    assert not is_loaded(again)


def test_grader_with_another_rubric_scores_anew(tmp_path):
    rows = answers({"prompt_id": "aa", "answer_id": "1", "answer": RIGHT})
    Grader(grader_spec(tmp_path, rubrics=[RUBRIC.model_dump()]))(rows)
    other = Grader(grader_spec(tmp_path, rubrics=[RUBRIC.model_dump() | {"system": "You are strict."}]))
    other(rows)
    assert is_loaded(other)


def compete(tmp_path, *rows, competes=True, **section):
    """Return pool and reasons of answers to one prompt; `rate` sets what the judge thinks of them."""
    spec = dataclasses.replace(grader_spec(tmp_path, rubrics=[RUBRIC.model_dump()], **section), competes=competes)
    plain = {"prompt_id": "aa", "text": "send 7 or 8 or 77"}
    graded = Grader(spec)(answers(*({**plain, "answer_id": str(index), **row} for index, row in enumerate(rows))))
    return list(zip(graded["pool"].to_pylist(), graded["reasons"].to_pylist(), strict=True))


SEVEN, EIGHT, LONGER = ({"answer": json.dumps({"number": number, "item": None})} for number in ("7", "8", "77"))
KEPT = {"relations": {"conflicts": "keep"}}
WON, LOST = ("train", ["accepted"]), ("contrast", ["outranked"])


@pytest.fixture
def rate(monkeypatch):
    """Set the probability of the best rating of answers that contain the key."""

    def by(shares):
        def choice_probs(self, chats, choices):
            texts = [chat[-1]["content"].partition(" => ")[2] for chat in chats]
            good = [next(share for key, share in shares.items() if key in text) for text in texts]
            return [[1 - share, share] for share in good]

        monkeypatch.setattr(FakeEngine, "choice_probs", choice_probs)

    return by


def test_of_competing_answers_the_most_trusted_stays(tmp_path, rate):
    rate({'"7"': 0.6, '"8"': 0.9})
    assert compete(tmp_path, SEVEN, {**EIGHT, "teacher": "u"}) == [LOST, WON]


def test_answers_that_do_not_compete_all_stay(tmp_path, rate):
    rate({'"7"': 0.6, '"8"': 0.9})
    assert compete(tmp_path, SEVEN, {**EIGHT, "teacher": "u"}, competes=False, pools=KEPT) == [WON, WON]


def test_of_equally_trusted_answers_the_one_its_teacher_repeats_stays(tmp_path, rate):
    rate({"": 0.9})
    other = {**EIGHT, "teacher": "u"}
    assert compete(tmp_path, SEVEN, LONGER, other, other) == [LOST, LOST, WON, WON]


def test_of_equal_answers_the_shorter_stays_in_any_order(tmp_path, rate):
    rate({"": 0.9})
    assert compete(tmp_path, {**LONGER, "teacher": "u"}, SEVEN) == [LOST, WON]
    assert compete(tmp_path, SEVEN, {**LONGER, "teacher": "u"}) == [WON, LOST]


def test_answer_equal_to_the_winner_ties_with_it(tmp_path, rate):
    rate({"": 0.9})
    spaced = {"answer": RIGHT.replace(" ", ""), "teacher": "u"}
    assert compete(tmp_path, SEVEN, spaced, {**EIGHT, "teacher": "v"}) == [WON, WON, LOST]


def test_prompts_do_not_compete_with_each_other(tmp_path, rate):
    rate({'"7"': 0.6, '"8"': 0.9})
    assert compete(tmp_path, SEVEN, {**EIGHT, "prompt_id": "ab"}) == [WON, WON]


def test_only_accepted_answers_can_be_outranked(tmp_path, rate):
    rate({'"7"': 0.3, '"8"': 0.9})
    assert compete(tmp_path, SEVEN, {**EIGHT, "teacher": "u"}, accept={"confidence": 0.5})[0] == ("review", ["low_confidence"])


def test_unrouted_prompt_goes_to_review(tmp_path):
    unrouted = answers({"prompt_id": "aa", "answer_id": "1", "answer": "", "finish_reason": "unrouted", "teacher": ""})
    graded = Grader(grader_spec(tmp_path, rubrics=[RUBRIC.model_dump()]))(unrouted)
    assert (graded["pool"].to_pylist(), graded["reasons"].to_pylist()) == (["review"], [["unroutable"]])


def test_judge_is_asked_in_even_batches(tmp_path, monkeypatch):
    sizes, choice_probs = [], FakeEngine.choice_probs
    monkeypatch.setattr(
        FakeEngine, "choice_probs", lambda self, chats, choices: sizes.append(len(chats)) or choice_probs(self, chats, choices)
    )
    spec = change_clients(grader_spec(tmp_path, rubrics=[RUBRIC.model_dump()]), pool=Pool(batch=4))
    texts = [
        {"prompt_id": f"a{n}", "answer_id": str(n), "answer": json.dumps({"number": "7", "item": None, "n": n})} for n in range(9)
    ]
    spec = dataclasses.replace(spec, section=spec.section.model_copy(update={"checks": ()}))
    assert Grader(spec)(answers(*texts))["score"].to_pylist() == [1.0] * 9
    assert sizes == [3, 3, 3]
    assert len(Folder(str(tmp_path / "ledger")).files()) == 1
