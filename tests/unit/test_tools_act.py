"""Conversations with tools: who asks, what is kept, how they end; and what a student learns of them."""

import dataclasses
import json
from pathlib import Path

import pytest

from engine.checks import Seen, run_checks
from engine.contract import Contract
from engine.contract.checks import Tools
from engine.contract.curation import Pick
from engine.contract.load import parse
from engine.contract.models import FakeModel, Sampling
from engine.contract.profile import Pool
from engine.contract.specialist import Output, Specialist, TaskUnit
from engine.contract.tools import Calculator
from engine.curation.represent import examples
from engine.errors import ContractError, InputError
from engine.evaluation.evaluator import EvalTarget, Evaluator
from engine.inference.engine import Completion, Request
from engine.inference.fake import FakeEngine
from engine.rows import PICKED, from_rows
from engine.tools import conversation
from engine.tools.agent import ToolAgent
from engine.tools.toolset import Toolset
from jobs.commands import check
from jobs.steps.toolset import hashes, kit
from tests.line import data_world as world
from tests.unit.test_teachers import Teacher, desk, prompts

KIT = Toolset((Calculator(type="calculator"),), max_calls=2, root="", hashes={})
FORM = {"type": "object", "properties": {"sum": {"type": ["string", "null"]}}, "required": ["sum"]}


def call(argument, tool="calculator"):
    return json.dumps({"thought": "t", "call": {"tool": tool, "argument": argument}}, separators=(",", ":"))


def answer(value):
    return json.dumps({"answer": value}, separators=(",", ":"))


class Scripted:
    """An engine that answers each question by its own script, a line a turn, and keeps what it was asked."""

    identity = "scripted"

    def __init__(self, **scripts):
        self.scripts, self.batches = scripts, []

    def complete(self, requests, sampling):
        self.batches.append(list(requests))
        return [self._say(request) for request in requests]

    def _say(self, request):
        said = [turn for turn in request.chat if turn["role"] == "assistant"]
        [asked] = [turn["content"] for turn in request.chat if turn["content"] in self.scripts]
        line = self.scripts[asked][len(said)]
        return line if isinstance(line, Completion) else Completion(line, "stop", 10, 5, logprob=-1.0, seconds=0.5)


def ask(engine, *texts, kit=KIT, schema=None, calls=2):
    chats = [[{"role": "system", "content": "Be exact."}, {"role": "user", "content": text}] for text in texts]
    requests = [Request(chat, seed=seed, temperature=0.5, json_schema=schema, max_calls=calls) for seed, chat in enumerate(chats)]
    return ToolAgent(engine, kit).complete(requests, Sampling())


def said(completion):
    return [(turn["role"], turn["content"], turn["ok"]) for turn in completion.trajectory]


def test_a_call_is_answered_by_its_tool_and_costs_add_up():
    [found] = ask(Scripted(x=[call("6 * 7"), answer("42")]), "x")
    assert (found.text, found.finish_reason) == ("42", "stop")
    assert (found.tokens_in, found.tokens_out, found.logprob, found.seconds) == (20, 10, -2.0, 1.0)
    assert said(found) == [("assistant", call("6 * 7"), True), ("tool", "42", True), ("assistant", answer("42"), True)]


def test_open_conversations_are_asked_together_and_ended_ones_no_more():
    engine = Scripted(x=[answer("1")], y=[call("1"), answer("2")], z=[call("1"), call("2"), answer("3")])
    assert [found.text for found in ask(engine, "x", "y", "z")] == ["1", "2", "3"]
    assert [len(batch) for batch in engine.batches] == [3, 2, 1]


def test_each_turn_has_a_seed_of_its_own_the_same_in_every_run():
    runs = [Scripted(x=[call("1"), answer("2")]), Scripted(x=[call("1"), answer("2")])]
    for engine in runs:
        ask(engine, "x")
    first, again = [[request.seed for batch in engine.batches for request in batch] for engine in runs]
    assert first == again and len(set(first)) == 2


def test_a_failed_call_is_kept_and_told_to_the_model():
    engine = Scripted(x=[call("1 / 0"), call("1 / 1"), answer("1")])
    [found] = ask(engine, "x")
    assert [turn["ok"] for turn in found.trajectory] == [True, False, True, True, True]
    assert engine.batches[1][0].chat[-1] == {"role": "user", "content": "Failed: division by zero"}
    assert engine.batches[2][0].chat[-1] == {"role": "user", "content": "Result: 1"}


def test_after_the_last_call_only_an_answer_is_allowed():
    engine = Scripted(x=[call("1"), call("2"), call("3")])
    [found] = ask(engine, "x")
    assert "anyOf" in engine.batches[1][0].json_schema
    assert engine.batches[2][0].json_schema["required"] == ["answer"]
    assert (found.finish_reason, found.error) == ("error", "turn 3 is no answer")
    assert len(found.trajectory) == 5 and not found.trajectory[-1]["ok"]


@pytest.mark.parametrize("line", ["I think 42", '{"call": {"tool": "calculator"}}', "[" * 9999, "{}"])
def test_a_turn_that_cannot_be_read_ends_the_answer_as_an_error(line):
    [found] = ask(Scripted(x=[line]), "x")
    assert (found.text, found.finish_reason, found.error) == (line, "error", "turn 1 is no call or answer")


@pytest.mark.parametrize("finish_reason", ["length", "too_long", "refused"])
def test_a_turn_that_was_cut_off_ends_the_answer_as_it_ended(finish_reason):
    cut = Completion('{"answer":"4', finish_reason, 10, 5, error="why")
    [found] = ask(Scripted(x=[call("1"), cut]), "x")
    assert (found.finish_reason, found.error, found.tokens_out, found.logprob) == (finish_reason, "why", 10, None)
    assert not found.trajectory[-1]["ok"]


def test_a_lost_turn_loses_the_answer():
    [found] = ask(Scripted(x=[call("1"), Completion("", "error", 0, 0, retryable=True)]), "x")
    assert found.retryable


def test_a_tool_that_breaks_is_a_failed_call(monkeypatch):
    monkeypatch.setattr("engine.tools.calculator.Calculator.__call__", lambda self, argument: 1 / 0)
    [found] = ask(Scripted(x=[call("1"), answer("1")]), "x")
    assert said(found)[1] == ("tool", "ZeroDivisionError: division by zero", False)


def test_an_unknown_tool_is_a_failed_call():
    [found] = ask(Scripted(x=[call("1", tool="shell"), answer("1")]), "x")
    assert said(found)[1] == ("tool", "there is no tool 'shell', only calculator", False)


def test_half_characters_and_long_results_become_text_that_can_be_stored():
    broken = '{"thought":"","call":{"tool":"calculator","argument":"\\ud800"}}'
    [found] = ask(Scripted(x=[broken, '{"answer":"\\udfff"}']), "x")
    assert found.text == "?" and from_rows([{"trajectory": list(found.trajectory)}], PICKED).num_rows == 1
    assert len(conversation.clip("x" * 5000)) == conversation.LONGEST


def test_an_answer_of_a_form_is_compact_json_and_its_schema_stands_in_the_turn():
    engine = Scripted(x=[answer({"sum": "42"})])
    [found] = ask(engine, "x", schema=FORM)
    assert found.text == '{"sum":"42"}'
    assert engine.batches[0][0].json_schema["anyOf"][1]["properties"]["answer"] == FORM


def test_a_teacher_is_told_of_its_tools_and_a_student_is_not():
    for is_told in (True, False):
        engine = Scripted(x=[answer("1")])
        ask(engine, "x", kit=Toolset(KIT.sections, 2, "", {}, is_told=is_told))
        system = engine.batches[0][0].chat[0]["content"]
        assert system.startswith("Be exact.") and ("- calculator: computes" in system) == is_told


def test_a_request_without_calls_is_asked_as_it_stands():
    engine = Scripted(x=["plain words"])
    [found] = ask(engine, "x", calls=0)
    assert (found.text, found.finish_reason, found.trajectory) == ("plain words", "stop", ())
    assert engine.batches[0][0].json_schema is None


def test_teacher_keeps_the_trajectory_and_pays_for_it_once(tmp_path):
    replies = (call("6 * 7"), answer("42"))
    given = desk(tmp_path, sampling=Sampling(), replies=replies)
    rows = Teacher(_with(given, KIT))(prompts("x"))
    assert rows["answer"].to_pylist() == ["42"]
    assert [turn["role"] for turn in rows["trajectory"].to_pylist()[0]] == ["assistant", "tool", "assistant"]
    again = Teacher(_with(given, KIT))
    assert again(prompts("x")).equals(rows) and again.engine is None


def test_other_tables_or_tools_are_other_answers(tmp_path):
    given = desk(tmp_path, sampling=Sampling(), replies=(answer("1"),))
    kits = [
        None,
        KIT,
        Toolset(KIT.sections, 3, "", {}),
        Toolset(KIT.sections, 2, "", {"t.csv": "a"}),
        Toolset(KIT.sections, 2, "", {"t.csv": "b"}),
    ]
    ids = [Teacher(_with(given, kit))(prompts("x"))["answer_id"].to_pylist()[0] for kit in kits]
    assert len(set(ids)) == len(kits)


def test_teacher_without_tools_has_empty_trajectories(tmp_path):
    assert Teacher(desk(tmp_path))(prompts("x"))["trajectory"].to_pylist() == [[], []]


def _with(given, kit):
    return dataclasses.replace(given, kit=kit)


def trajectory(*results, ok=True):
    return [turn for text in results for turn in _pair(text, ok)] + [{"role": "assistant", "content": "a", "tool": "", "ok": True}]


def _pair(text, ok):
    yield {"role": "assistant", "content": call("1"), "tool": "calculator", "ok": True}
    yield {"role": "tool", "content": text, "tool": "calculator", "ok": ok}


@pytest.mark.parametrize(
    ("said", "results", "tag"),
    [
        ('{"sum":"42"}', ["42"], ""),
        ('{"sum":"42.00"}', ["42"], ""),  # an equal number
        ('{"sum":1250}', ["total=1,250"], ""),
        ('{"sum":"4"}', ["42"], "unsupported"),
        ('{"sum":"42"}', ["42", "43"], "unsupported"),  # the last result counts
        ('{"sum":"30 DAYS"}', ["back within 30 days."], ""),
        ('{"sum":"30 days","why":"law"}', ["back within 30 days."], "unsupported"),
        ('{"sum":null}', [""], ""),
        ('{"sum":null}', ["42"], "unsupported"),  # it was found
        ('{"sum":"42"}', [""], "unsupported"),
        ("It is 42.0 in all.", ["42"], ""),
        ("It is 42, not 41.", ["42"], "unsupported"),
        ("Bath", ["city=Bath"], ""),
        ("", ["42"], "unsupported"),
        ("{}", ["42"], "unsupported"),
    ],
)
def test_check_tools_finds_answers_that_do_not_follow(said, results, tag):
    [outcome] = run_checks([Tools(type="tools")], Seen(said, trajectory=trajectory(*results)))
    assert (outcome.passed, outcome.tag) == (tag == "", tag)


@pytest.mark.parametrize("turns", [[], trajectory("42", ok=False)])
def test_check_tools_wants_a_call_that_succeeded(turns):
    [outcome] = run_checks([Tools(type="tools")], Seen("42", trajectory=turns))
    assert outcome.tag == "no_call"


def test_student_learns_each_turn_but_failed_calls():
    specialist = Specialist(goal="g", task_units=(_unit(supervise="tools"),))
    told = [*_pair("division by zero", False), *_pair("42", True)]
    told.append({"role": "assistant", "content": answer({"sum": "42"}), "tool": "", "ok": True})
    row = {
        "answer_id": "a1", "prompt_id": "p1", "task_unit": "desk", "messages": [{"role": "user", "content": "x"}],
        "answer": '{"sum":"42"}',
        "trajectory": told, "pool": "train", "difficulty": "easy", "dropped_by": "",
    }  # fmt: skip
    made = examples(from_rows([row], PICKED), specialist, Pick(), seed=0).to_pylist()
    assert [one["example_id"] for one in made] == ["a1-2", "a1"]
    assert [one["target"] for one in made] == [call("1"), answer({"sum": "42"})]
    assert [len(one["messages"]) for one in made] == [4, 6]  # instruction, question, and what was said before
    assert made[0]["messages"][-1]["content"] == "Failed: division by zero"
    assert {one["final"] for one in made} == {'{"sum":"42"}'} and len({one["split"] for one in made}) == 1


def _unit(**more):
    return TaskUnit(name="desk", kind="tool_call", instruction="Answer.", output=Output(json_schema=FORM), **more)


@pytest.mark.parametrize(
    ("role", "supervise", "acts"),
    [("teacher", "answer", True), ("student", "tools", True), ("student", "answer", False)],
)
def test_evaluated_models_act_as_they_were_taught(role, supervise, acts):
    model = FakeModel(type="fake", replies=(answer("1"),))
    unit = TaskUnit(name="desk", kind="tool_call", supervise=supervise)
    evaluator = Evaluator(EvalTarget("m", role, model, {"desk": unit}, toolset=KIT), Pool())
    row = {"task_unit": "desk", "text": "x", "messages": [{"role": "user", "content": "x"}]}
    [found] = evaluator.evaluate([row], 1).completions
    assert found.text == ("1" if acts else answer("1"))


TEACHERS = {"mode": "tools", "tools": [{"type": "calculator"}], "models": [{"name": "t", "model": {"type": "fake"}}]}
SPECIALIST = {"goal": "g", "task_units": [{"name": "desk", "kind": "tool_call", "supervise": "tools"}]}


def refused(**sections):
    with pytest.raises(ContractError) as error:
        parse(Contract, {**world.CONTRACT, **sections}, where=Path("c.yaml"))
    return str(error.value)


def test_contract_with_tools_is_sound():
    assert world.contract(teachers=TEACHERS, specialist=SPECIALIST, judges={"checks": [{"type": "tools"}]})


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"teachers": {**TEACHERS, "tools": []}}, "mode tools needs at least one, such as {type: calculator}"),
        ({"teachers": {**TEACHERS, "mode": "direct"}}, "found ['calculator'], which mode direct never calls"),
        ({"teachers": {**TEACHERS, "tools": [{"type": "calculator"}] * 2}}, "names must differ"),
        ({"teachers": {**TEACHERS, "tools": [{"type": "shell"}]}}, "'shell'"),
        ({"teachers": {**TEACHERS, "tools": [{"type": "sql", "tables": {}}]}}, "at least 1"),
        ({"teachers": {**TEACHERS, "tools": [{"type": "sql", "tables": {"a; drop": "x.csv"}}]}}, "pattern"),
        ({"specialist": SPECIALIST}, "task_units.desk.supervise: found tools, but in teachers.mode direct none is called"),
        ({"judges": {"checks": [{"type": "tools"}]}}, "judges.checks: found tools, but in teachers.mode direct"),
    ],
)
def test_contract_says_what_does_not_go_together(sections, why):
    assert why in refused(**sections)


def test_a_changed_table_is_drift(tmp_path):
    (tmp_path / "t.csv").write_text("id\n1\n")
    tools = [{"type": "calculator"}, {"type": "sql", "tables": {"t": "t.csv"}}]
    context = world.context(tmp_path, "candidates", world.contract(teachers={**TEACHERS, "tools": tools}))
    before = hashes(context)
    (tmp_path / "t.csv").write_text("id\n2\n")
    assert list(before) == ["t.csv"] and hashes(context) != before
    assert kit(context).hashes == hashes(context)
    assert kit(world.context(tmp_path, "candidates", world.contract())) is None


def test_check_names_a_table_that_is_not_there(tmp_path):
    order = world.contract(teachers={**TEACHERS, "tools": [{"type": "sql", "tables": {"t": "t.csv"}}]})
    with pytest.raises(InputError, match=r"teachers\.tools\.0\.tables\.t: found nothing at .*t\.csv"):
        check.verify(order, root=str(tmp_path), models=str(tmp_path))


def test_fake_engine_is_not_asked_by_closed_conversations():
    engine = FakeEngine(FakeModel(type="fake", replies=(answer("1"),)), Pool(), None)
    ask(engine, "x", "y")
    assert engine.asked == 2
