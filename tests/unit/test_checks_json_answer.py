"""JSON in answers, for checks, curation and evaluation: strict, but for a fence, and for text before it where it is allowed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checks import CheckInput, canonical, run_checks
from engine.checks.json_answer import read_json
from engine.contract.checks import Grounded, JsonSchema
from engine.contract.models import FakeModel
from engine.contract.profile import Pool
from engine.contract.specialist import Output, Specialist, TaskUnit
from engine.contract.teachers import Teacher as TeacherSection
from engine.curation.represent import represent
from engine.evaluation.evaluator import EvalTarget, Evaluated
from engine.evaluation.predict import predictions
from engine.inference.client import ClientSpec
from engine.inference.engine import Completion
from engine.rows import PROMPT, from_rows
from engine.storage.folder import Folder
from engine.teachers.teacher import Teacher, TeacherSpec

SCHEMA = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]}
JSON = '{"a": "x"}'
FENCED = [
    f"```json\n{JSON}\n```",
    f"```\n{JSON}\n```",
    f"```JSON\r\n{JSON}\r\n```\n",
    f"~~~json\n{JSON}\n~~~",
    f"````\n{JSON}\n````",
]
AFTER_TEXT = [f"Here it is:\n\n{JSON}", *(f"Here it is:\n{fenced}" for fenced in FENCED), f"Take {{this}} [1]: {JSON}"]
NEITHER = [
    f"{JSON}\nThat is all.",
    f"```json\n{JSON}\n```\nThat is all.",
    f"```python\n{JSON}\n```",
    "Here: x",
    "",
]
NO_JSON = [
    '{"a": NaN}',
    '{"a": [Infinity]}',
    '{"a": 1e400}',
    '{"a": "x", "a": "y"}',
    "{'a': 'x'}",
    '{"a": "x",}',
    '{"a": "x"} {"a": "y"}',
]


def unit(**more):
    return TaskUnit(name="u", kind="extraction", output=Output(json_schema=SCHEMA), **more)


def tag(answer, **more):
    row = {"answer": answer, "text": "x", "messages": []}
    [result] = run_checks([JsonSchema(type="json_schema")], CheckInput.of(row, unit(**more)))
    return result.tag


@pytest.mark.parametrize("answer", [JSON, f" \n{JSON}\n", *FENCED])
def test_a_fence_around_the_whole_answer_is_no_part_of_it(answer):
    assert (tag(answer), tag(answer, lenient_json=True)) == ("", "")
    assert run_checks([Grounded(type="grounded")], CheckInput(answer, "x"))[0].passed
    assert canonical(answer) == canonical(JSON)
    assert represent(answer, unit()) == ('{"a":"x"}', "", "")


@pytest.mark.parametrize("answer", AFTER_TEXT)
def test_text_before_the_json_is_read_where_the_task_unit_allows_it(answer):
    assert (tag(answer), tag(answer, lenient_json=True)) == ("not_json", "")
    final, rationale, _ = represent(answer, unit())
    assert final == '{"a":"x"}' and rationale and "`" not in rationale


@pytest.mark.parametrize("answer", [*NEITHER, *NO_JSON])
def test_what_is_no_json_stays_none(answer):
    assert (tag(answer), tag(answer, lenient_json=True)) == ("not_json", "not_json")
    assert read_json(answer) is None
    assert represent(answer, unit()).final == answer.strip()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_whatever_json_is_written_is_read_with_and_without_a_fence(value):
    text = json.dumps(value)
    for answer in (text, f"```json\n{text}\n```"):
        read = read_json(answer)
        assert read is not None and (read.value, read.text, read.before) == (value, text, "")


@given(st.text())
def test_no_text_makes_the_reader_fail(text):
    read = read_json(text, after_text=True)
    assert read is None or json.loads(read.text) == read.value


def test_the_draft_of_the_schema_counts():
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}
    results = [
        run_checks([JsonSchema(type="json_schema")], CheckInput(answer, schema=schema))[0].tag for answer in ('["a"]', "[1]")
    ]
    assert results == ["", "off_schema"]


def test_a_teacher_keeps_the_text_before_its_json_as_reasoning(tmp_path):
    places = [Folder(str(tmp_path / name)) for name in ("ledger", "markers", "budget")]
    model = FakeModel(type="fake", replies=(f"Here it is: {JSON}",))
    section = TeacherSection(name="t", model=model, structured=False)
    prompt = {"prompt_id": "p", "task_unit": "u", "text": "x", "messages": [{"role": "user", "content": "x"}]}
    rows = []
    for allowed in (True, False):
        specialist = Specialist(goal="g", task_units=(unit(lenient_json=allowed),))
        teacher = Teacher(TeacherSpec(section, specialist, ClientSpec(model, Pool(), None, *places)))
        [row] = teacher(from_rows([prompt], PROMPT)).to_pylist()
        rows.append((row["answer_id"], row["answer"], row["reasoning"]))
    assert rows[0][1:] == (JSON, "Here it is:") and rows[1][1:] == (f"Here it is: {JSON}", "")
    assert rows[0][0] == rows[1][0]  # paid once: how an answer is read does not change what was asked


def test_evaluation_reads_what_checks_read():
    target = EvalTarget("m", "student", FakeModel(type="fake"), {"u": unit(lenient_json=True)})
    row = {"prompt_id": "p", "task_unit": "u", "text": "x", "reference": JSON, "scenario": "s", "messages": []}
    evaluated = Evaluated([Completion(f"Here it is: ```json\n{JSON}\n```", "stop", 1, 1)])
    [graded] = predictions(target, [row], evaluated, scenarios=[], checks=[JsonSchema(type="json_schema")]).to_pylist()
    assert (graded["valid"], graded["exact"], graded["checks"][0]["passed"]) == (True, True, True)
