"""A model with tools: its calls, its turns, what fails, and what a conversation costs."""

import json

import pytest

from engine.contract.models import FakeModel, Sampling
from engine.contract.profile import Pool
from engine.contract.tools import Calculator
from engine.inference.engine import Completion, Request
from engine.inference.fake import FakeEngine
from engine.rows import PICKED, from_rows
from engine.tools import conversation
from engine.tools.agent import ToolAgent
from engine.tools.toolset import Toolset

TOOLSET = Toolset((Calculator(type="calculator"),), max_calls=2, root="", hashes={})
FORM = {"type": "object", "properties": {"sum": {"type": ["string", "null"]}}, "required": ["sum"]}


def call(argument, tool="calculator"):
    return json.dumps({"thought": "t", "call": {"tool": tool, "argument": argument}}, separators=(",", ":"))


def answer(value):
    return json.dumps({"answer": value}, separators=(",", ":"))


class Scripted:
    """An engine that answers each question by its own script, a line a turn, and keeps the requests."""

    identity = "scripted"

    def __init__(self, **scripts):
        self.scripts, self.batches = scripts, []

    def complete(self, requests, sampling):
        self.batches.append(list(requests))
        return [self._reply(request) for request in requests]

    def _reply(self, request):
        replies = [turn for turn in request.chat if turn["role"] == "assistant"]
        [question] = [turn["content"] for turn in request.chat if turn["content"] in self.scripts]
        line = self.scripts[question][len(replies)]
        return line if isinstance(line, Completion) else Completion(line, "stop", 10, 5, logprob=-1.0, seconds=0.5)


def ask(engine, *texts, toolset=TOOLSET, schema=None, calls=2):
    chats = [[{"role": "system", "content": "Be exact."}, {"role": "user", "content": text}] for text in texts]
    requests = [Request(chat, seed=seed, temperature=0.5, json_schema=schema, max_calls=calls) for seed, chat in enumerate(chats)]
    return ToolAgent(engine, toolset).complete(requests, Sampling())


def trajectory_of(completion):
    return [(turn["role"], turn["content"], turn["ok"]) for turn in completion.trajectory]


def test_a_call_is_answered_by_its_tool_and_costs_add_up():
    [completion] = ask(Scripted(x=[call("6 * 7"), answer("42")]), "x")
    assert (completion.text, completion.finish_reason) == ("42", "stop")
    assert (completion.tokens_in, completion.tokens_out, completion.logprob, completion.seconds) == (20, 10, -2.0, 1.0)
    assert trajectory_of(completion) == [
        ("assistant", call("6 * 7"), True),
        ("tool", "42", True),
        ("assistant", answer("42"), True),
    ]


def test_open_conversations_are_asked_together_and_ended_ones_no_more():
    engine = Scripted(x=[answer("1")], y=[call("1"), answer("2")], z=[call("1"), call("2"), answer("3")])
    assert [completion.text for completion in ask(engine, "x", "y", "z")] == ["1", "2", "3"]
    assert [len(batch) for batch in engine.batches] == [3, 2, 1]


def test_each_turn_has_a_seed_of_its_own_the_same_in_every_run():
    runs = [Scripted(x=[call("1"), answer("2")]), Scripted(x=[call("1"), answer("2")])]
    for engine in runs:
        ask(engine, "x")
    first, again = [[request.seed for batch in engine.batches for request in batch] for engine in runs]
    assert first == again and len(set(first)) == 2


def test_a_failed_call_is_kept_and_told_to_the_model():
    engine = Scripted(x=[call("1 / 0"), call("1 / 1"), answer("1")])
    [completion] = ask(engine, "x")
    assert [turn["ok"] for turn in completion.trajectory] == [True, False, True, True, True]
    assert engine.batches[1][0].chat[-1] == {"role": "user", "content": "Failed: division by zero"}
    assert engine.batches[2][0].chat[-1] == {"role": "user", "content": "Result: 1"}


def test_after_max_calls_only_an_answer_is_allowed():
    engine = Scripted(x=[call("1"), call("2"), call("3")])
    [completion] = ask(engine, "x")
    assert "anyOf" in engine.batches[1][0].json_schema
    assert engine.batches[2][0].json_schema["required"] == ["answer"]
    assert (completion.finish_reason, completion.error) == ("error", "turn 3 is no answer")
    assert len(completion.trajectory) == 5 and not completion.trajectory[-1]["ok"]


@pytest.mark.parametrize("line", ["I think 42", '{"call": {"tool": "calculator"}}', "[" * 9999, "{}"])
def test_a_turn_that_cannot_be_read_ends_the_answer_as_an_error(line):
    [completion] = ask(Scripted(x=[line]), "x")
    assert (completion.text, completion.finish_reason, completion.error) == (line, "error", "turn 1 is no call or answer")


@pytest.mark.parametrize("finish_reason", ["length", "too_long", "refused"])
def test_a_turn_that_was_cut_off_ends_the_answer_as_it_ended(finish_reason):
    cut = Completion('{"answer":"4', finish_reason, 10, 5, error="why")
    [completion] = ask(Scripted(x=[call("1"), cut]), "x")
    assert (completion.finish_reason, completion.error, completion.tokens_out, completion.logprob) == (
        finish_reason,
        "why",
        10,
        None,
    )
    assert not completion.trajectory[-1]["ok"]


def test_a_lost_turn_loses_the_answer():
    [completion] = ask(Scripted(x=[call("1"), Completion("", "error", 0, 0, retryable=True)]), "x")
    assert completion.retryable


def test_a_tool_that_breaks_is_a_failed_call(monkeypatch):
    monkeypatch.setattr("engine.tools.calculator.Calculator.__call__", lambda self, argument: 1 / 0)
    [completion] = ask(Scripted(x=[call("1"), answer("1")]), "x")
    assert trajectory_of(completion)[1] == ("tool", "ZeroDivisionError: division by zero", False)


def test_an_unknown_tool_is_a_failed_call():
    [completion] = ask(Scripted(x=[call("1", tool="shell"), answer("1")]), "x")
    assert trajectory_of(completion)[1] == ("tool", "there is no tool 'shell', only calculator", False)


def test_unpaired_surrogates_and_long_results_become_text_that_can_be_stored():
    broken = '{"thought":"","call":{"tool":"calculator","argument":"\\ud800"}}'
    [completion] = ask(Scripted(x=[broken, '{"answer":"\\udfff"}']), "x")
    assert completion.text == "?" and from_rows([{"trajectory": list(completion.trajectory)}], PICKED).num_rows == 1
    assert len(conversation.truncate("x" * 5000)) == conversation.MAX_CHARS


def test_an_answer_of_a_form_is_compact_json_and_its_schema_stands_in_the_turn():
    engine = Scripted(x=[answer({"sum": "42"})])
    [completion] = ask(engine, "x", schema=FORM)
    assert completion.text == '{"sum":"42"}'
    assert engine.batches[0][0].json_schema["anyOf"][1]["properties"]["answer"] == FORM


def test_system_text_describes_the_tools_for_a_teacher_and_not_for_a_student():
    for in_system_text in (True, False):
        engine = Scripted(x=[answer("1")])
        ask(engine, "x", toolset=Toolset(TOOLSET.sections, 2, "", {}, in_system_text=in_system_text))
        system = engine.batches[0][0].chat[0]["content"]
        assert system.startswith("Be exact.") and ("- calculator: computes" in system) == in_system_text


def test_request_without_calls_is_passed_on_unchanged():
    engine = Scripted(x=["plain words"])
    [completion] = ask(engine, "x", calls=0)
    assert (completion.text, completion.finish_reason, completion.trajectory) == ("plain words", "stop", ())
    assert engine.batches[0][0].json_schema is None


def test_fake_engine_is_not_asked_by_closed_conversations():
    engine = FakeEngine(FakeModel(type="fake", replies=(answer("1"),)), Pool(), None)
    ask(engine, "x", "y")
    assert engine.num_answers == 2
