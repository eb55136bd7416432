"""Tools in teachers, checks, training examples, evaluation and contracts."""

import dataclasses
from pathlib import Path

import pytest

from engine.checks import CheckInput, run_checks
from engine.contract.checks import Tools
from engine.contract.curation import Pick
from engine.contract.load import parse_contract
from engine.contract.models import FakeModel, Sampling
from engine.contract.profile import Pool
from engine.contract.specialist import Output, Specialist, TaskUnit
from engine.contract.tools import Calculator, Retrieval, Sql
from engine.curation.represent import examples
from engine.errors import ContractError, InputError
from engine.evaluation.evaluator import EvalTarget, Evaluator
from engine.rows import PICKED, from_rows
from engine.tools.toolset import Toolset
from jobs.commands import check
from jobs.steps.toolset import file_hashes, toolset
from tests.line import data_world as world
from tests.unit.test_teachers import Teacher, prompts
from tests.unit.test_teachers import spec as teacher_spec
from tests.unit.test_tools_agent import FORM, TOOLSET, answer, call


def test_identity_of_a_toolset_is_part_of_cache_keys_and_stays_the_same():
    sections = (
        Calculator(type="calculator"),
        Sql(type="sql", tables={"t": "t.csv"}),
        Retrieval(type="retrieval", corpus="c.jsonl"),
    )
    assert Toolset(sections, 2, "", {"t.csv": "a"}).identity == "74716840de0e4c504dc4741de962d18b"


def test_teacher_keeps_the_trajectory_and_pays_for_it_once(tmp_path):
    replies = (call("6 * 7"), answer("42"))
    spec = teacher_spec(tmp_path, sampling=Sampling(), replies=replies)
    rows = Teacher(_with(spec, TOOLSET))(prompts("x"))
    assert rows["answer"].to_pylist() == ["42"]
    assert [turn["role"] for turn in rows["trajectory"].to_pylist()[0]] == ["assistant", "tool", "assistant"]
    again = Teacher(_with(spec, TOOLSET))
    assert again(prompts("x")).equals(rows) and again.client.engine is None


def test_other_tables_or_tools_are_other_answers(tmp_path):
    spec = teacher_spec(tmp_path, sampling=Sampling(), replies=(answer("1"),))
    toolsets = [
        None,
        TOOLSET,
        Toolset(TOOLSET.sections, 3, "", {}),
        Toolset(TOOLSET.sections, 2, "", {"t.csv": "a"}),
        Toolset(TOOLSET.sections, 2, "", {"t.csv": "b"}),
    ]
    ids = [Teacher(_with(spec, toolset))(prompts("x"))["answer_id"].to_pylist()[0] for toolset in toolsets]
    assert len(set(ids)) == len(toolsets)


def test_teacher_without_tools_has_empty_trajectories(tmp_path):
    assert Teacher(teacher_spec(tmp_path))(prompts("x"))["trajectory"].to_pylist() == [[], []]


def _with(spec, toolset):
    return dataclasses.replace(spec, toolset=toolset)


def trajectory(*results, ok=True):
    return [turn for text in results for turn in _pair(text, ok)] + [{"role": "assistant", "content": "a", "tool": "", "ok": True}]


def _pair(text, ok):
    yield {"role": "assistant", "content": call("1"), "tool": "calculator", "ok": True}
    yield {"role": "tool", "content": text, "tool": "calculator", "ok": ok}


@pytest.mark.parametrize(
    ("reply", "results", "tag"),
    [
        ('{"sum":"42"}', ["42"], ""),
        ('{"sum":"42.00"}', ["42"], ""),  # an equal number
        ('{"sum":1250}', ["total=1,250"], ""),
        ('{"sum":"4"}', ["42"], "unsupported"),
        ('{"sum":"42"}', ["42", "43"], "unsupported"),  # the last result counts
        ('{"sum":"30 DAYS"}', ["back within 30 days."], ""),
        ('{"sum":"30 days","why":"law"}', ["back within 30 days."], "unsupported"),
        ('{"sum":null}', [""], ""),
        ('{"sum":null}', ["42"], "unsupported"),
        ('{"sum":"42"}', [""], "unsupported"),
        ("It is 42.0 in all.", ["42"], ""),
        ("It is 42, not 41.", ["42"], "unsupported"),
        ("Bath", ["city=Bath"], ""),
        ("", ["42"], "unsupported"),
        ("{}", ["42"], "unsupported"),
    ],
)
def test_check_tools_finds_answers_that_do_not_follow(reply, results, tag):
    [outcome] = run_checks([Tools(type="tools")], CheckInput(reply, trajectory=trajectory(*results)))
    assert (outcome.passed, outcome.tag) == (tag == "", tag)


@pytest.mark.parametrize("turns", [[], trajectory("42", ok=False)])
def test_check_tools_wants_a_call_that_succeeded(turns):
    [outcome] = run_checks([Tools(type="tools")], CheckInput("42", trajectory=turns))
    assert outcome.tag == "no_call"


def test_student_learns_each_turn_but_failed_calls():
    specialist = Specialist(goal="g", task_units=(_unit(supervise="tools"),))
    turns = [*_pair("division by zero", False), *_pair("42", True)]
    turns.append({"role": "assistant", "content": answer({"sum": "42"}), "tool": "", "ok": True})
    picked = {
        "answer_id": "a1", "prompt_id": "p1", "task_unit": "desk", "messages": [{"role": "user", "content": "x"}],
        "answer": '{"sum":"42"}',
        "trajectory": turns, "pool": "train", "difficulty": "easy", "dropped_by": "",
    }  # fmt: skip
    rows = examples(from_rows([picked], PICKED), specialist, Pick(), seed=0).to_pylist()
    assert [row["example_id"] for row in rows] == ["a1-2", "a1"]
    assert [row["target"] for row in rows] == [call("1"), answer({"sum": "42"})]
    assert [len(row["messages"]) for row in rows] == [4, 6]  # instruction, question, and what was said before
    assert rows[0]["messages"][-1]["content"] == "Failed: division by zero"
    assert {row["final"] for row in rows} == {'{"sum":"42"}'} and len({row["split"] for row in rows}) == 1


def _unit(**more):
    return TaskUnit(name="desk", kind="tool_call", instruction="Answer.", output=Output(json_schema=FORM), **more)


@pytest.mark.parametrize(
    ("role", "supervise", "acts"),
    [("teacher", "answer", True), ("student", "tools", True), ("student", "answer", False)],
)
def test_evaluated_models_use_tools_as_they_were_trained(role, supervise, acts):
    model = FakeModel(type="fake", replies=(answer("1"),))
    unit = TaskUnit(name="desk", kind="tool_call", supervise=supervise)
    examiner = Evaluator(EvalTarget("m", role, model, {"desk": unit}, toolset=TOOLSET), Pool())
    row = {"prompt_id": "p", "task_unit": "desk", "text": "x", "messages": [{"role": "user", "content": "x"}]}
    [completion] = examiner.evaluate([row], 1).completions
    assert completion.text == ("1" if acts else answer("1"))


TEACHERS = {"mode": "tools", "tools": [{"type": "calculator"}], "models": [{"name": "t", "model": {"type": "fake"}}]}
SPECIALIST = {"goal": "g", "task_units": [{"name": "desk", "kind": "tool_call", "supervise": "tools"}]}


def refused(**sections):
    with pytest.raises(ContractError) as error:
        parse_contract({**world.CONTRACT, **sections}, where=Path("c.yaml"))
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
        ({"specialist": SPECIALIST}, "task_units.desk.supervise: found tools, but teachers.mode direct calls none"),
        ({"judges": {"checks": [{"type": "tools"}]}}, "judges.checks: found tools, but teachers.mode direct"),
    ],
)
def test_contract_names_what_does_not_fit_together(sections, why):
    assert why in refused(**sections)


def test_a_changed_table_is_drift(tmp_path):
    (tmp_path / "t.csv").write_text("id\n1\n")
    tools = [{"type": "calculator"}, {"type": "sql", "tables": {"t": "t.csv"}}]
    context = world.context(tmp_path, "candidates", world.contract(teachers={**TEACHERS, "tools": tools}))
    before = file_hashes(context)
    (tmp_path / "t.csv").write_text("id\n2\n")
    assert list(before) == ["t.csv"] and file_hashes(context) != before
    assert toolset(context).hashes == file_hashes(context)
    assert toolset(world.context(tmp_path, "candidates", world.contract())) is None


def test_check_names_a_table_that_is_not_there(tmp_path):
    order = world.contract(teachers={**TEACHERS, "tools": [{"type": "sql", "tables": {"t": "t.csv"}}]})
    with pytest.raises(InputError, match=r"teachers\.tools\.0\.tables\.t: found nothing at .*t\.csv"):
        check.verify(order, root=str(tmp_path), models=str(tmp_path))
