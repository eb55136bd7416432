"""Several teachers at one prompt: who is asked, who is not, and that nothing else changes."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from engine.contract.models import FakeModel, Sampling
from engine.contract.profile import Pool
from engine.contract.routes import Route
from engine.contract.specialist import Specialist, TaskUnit
from engine.contract.teachers import Teacher as TeacherSection
from engine.contract.teachers import Teachers, Thinks
from engine.inference.client import ClientSpec
from engine.rows import ANSWER, PROMPT
from engine.storage.folder import Folder
from engine.teachers import route
from engine.teachers.chained import ChainedTeacher
from engine.teachers.route import ROUTED, Router, Routing, answered, reached, route_to_all
from engine.teachers.skipped import SkippedCounter
from engine.teachers.teacher import Teacher, TeacherSpec

CORE, HARD, ODD = {"layer": "core"}, {"layer": "failure_mode", "difficulty": "hard"}, {"layer": "long_tail", "difficulty": "easy"}


def prompts(*kinds):
    plain = {name: None for name in PROMPT.names} | {"task_unit": "form", "redacted": [], "difficulty": "easy"}
    rows = []
    for index, kind in enumerate(kinds):
        text = kind.get("text", f"prompt {index}")
        rows.append({**plain, "prompt_id": f"{index:02x}", "text": text, "messages": [{"role": "user", "content": text}], **kind})
    return pa.Table.from_pylist(rows, schema=PROMPT)


def spec(tmp_path, name, *, n=1, **section):
    teacher = TeacherSection(name=name, model=FakeModel(type="fake"), sampling=Sampling(n=n, temperature=0.7), system="S")
    specialist = Specialist(goal="g", task_units=(TaskUnit(name="form", kind="rewrite"),))
    folder, section = Folder(str(tmp_path / "ledger")), teacher.model_copy(update=section)
    client = ClientSpec(section.model, Pool(), None, folder, folder / "markers", folder / "budget", payee=name)
    return TeacherSpec(section, specialist, client)


def routing(*rules, **given):
    return Routing([Route.model_validate(rule) for rule in rules], **given)


def said_by(rows):
    return [(row["prompt_id"], row["route"], row["teacher"]) for row in rows.to_pylist()]


RULES = ({"when": CORE, "to": "a"}, {"when": {"difficulty": ["hard", "medium"]}, "to": ["a", "b"]})


def test_router_takes_the_first_rule_that_fits():
    rows = Router(routing(*RULES))(prompts(CORE, HARD, {**CORE, "difficulty": "hard"}))
    assert rows.schema == ROUTED
    assert rows["route"].to_pylist() == ["0: layer=core", "1: difficulty=hard|medium", "0: layer=core"]
    assert rows["to"].to_pylist() == [["a"], ["a", "b"], ["a"]]


def test_router_without_conditions_takes_what_is_left():
    rows = Router(routing(RULES[0], {"when": {}, "to": "b"}))(prompts(CORE, ODD))
    assert rows["route"].to_pylist() == ["0: layer=core", "1: otherwise"]


def test_unmatched_prompt_is_one_answer_without_a_teacher():
    carried = Router(routing(*RULES))(prompts(ODD))
    [row] = answered(carried).to_pylist()
    assert (row["finish_reason"], row["teacher"], row["route"], row["tokens_out"]) == ("unrouted", "", "none", 0)
    assert "teachers.routes" in row["error"] and row["answer_id"] != row["prompt_id"]


def test_router_names_every_decision_that_it_can_make():
    rules = routing(*RULES, {"nearest": {"bank": [{"input": "x", "to": "b"}]}}, {"when": {}, "to": "a"}).routes
    assert reached(rules) == {
        "0: layer=core": ("a",), "1: difficulty=hard|medium": ("a", "b"), "2: nearest 0": ("b",), "3: otherwise": ("a",),
    }  # fmt: skip


@pytest.fixture
def letters(monkeypatch):
    """Embeddings that a reader can compute: how often a, b and c occur, as a unit vector."""

    class Letters:
        def __init__(self, folder, device):
            assert folder == "weights"

        def __call__(self, texts):
            found = np.array([[text.count(letter) for letter in "abc"] for text in texts], np.float32)
            return found / np.linalg.norm(found, axis=1, keepdims=True)

    monkeypatch.setattr(route, "SentenceEncoder", Letters)


def test_nearest_labelled_prompt_decides_and_a_far_one_is_left_to_the_next_rule(letters):
    bank = [{"input": "aa", "to": "x"}, {"input": "b", "to": "y"}, {"input": "aaa", "to": "z"}]
    rules = routing(
        {"nearest": {"bank": bank, "model": "m", "min_cosine": 0.9}}, {"when": CORE, "to": "x"}, folders={"m": "weights"}
    )
    rows = Router(rules)(prompts({"text": "abbbb"}, {"text": "aaab"}, {"text": "c", **CORE}, {"text": "ccc"}))
    assert rows["route"].to_pylist() == ["0: nearest 1", "0: nearest 0", "1: layer=core", "none"]
    assert rows["to"].to_pylist() == [["y"], ["x"], ["x"], []]


def test_teachers_in_turn_answer_only_what_is_sent_to_them(tmp_path):
    rows = Router(routing(*RULES))(prompts(CORE, HARD, ODD))
    for name in ("a", "b"):
        rows = ChainedTeacher(spec(tmp_path, name))(rows)
    rows = answered(rows)
    assert rows.schema == ANSWER
    assert sorted(said_by(rows)) == [
        ("00", "0: layer=core", "a"), ("01", "1: difficulty=hard|medium", "a"), ("01", "1: difficulty=hard|medium", "b"),
        ("02", "none", ""),
    ]  # fmt: skip


def test_teacher_that_is_not_asked_loads_no_model(tmp_path):
    turn = ChainedTeacher(spec(tmp_path, "b"))
    assert turn(Router(routing(*RULES))(prompts(CORE))).num_rows == 1
    assert turn.teacher.client.engine is None


def test_teacher_in_turn_gives_the_answers_it_gives_alone(tmp_path):
    asked = prompts(CORE, HARD)
    alone = Teacher(spec(tmp_path / "alone", "a", n=2))(asked)
    rows = route_to_all(asked, ["a", "b"])
    for name in ("b", "a"):
        rows = ChainedTeacher(spec(tmp_path / "together", name, n=2))(rows)
    rows = answered(rows)
    assert rows.num_rows == 8
    assert rows.filter(pa.compute.equal(rows["teacher"], "a")).equals(alone)


def test_route_is_no_part_of_what_was_paid_for(tmp_path):
    first = ChainedTeacher(spec(tmp_path, "a"))(Router(routing({"when": CORE, "to": "a"}))(prompts(CORE)))
    other = ChainedTeacher(spec(tmp_path, "a"))
    again = other(Router(routing({"when": {}, "to": "a"}))(prompts(CORE)))
    assert other.teacher.client.engine is None
    assert answered(again)["answer_id"] == answered(first)["answer_id"]
    assert answered(again)["route"].to_pylist() == ["0: otherwise"]


TWO = [{"name": name, "model": {"type": "fake"}, "sampling": {"n": 2, "stop_after_verified": 1}} for name in ("a", "b")]


def skipped(rows, **section):
    answers = [dict(zip(("prompt_id", "route", "teacher", "sample"), row, strict=True)) for row in rows]
    return SkippedCounter(Teachers.model_validate({"models": TWO, **section}))(pa.Table.from_pylist(answers))


def test_answers_that_are_not_routed_or_stopped_early_are_counted():
    routes = [{"when": CORE, "to": "a"}, {"when": {}, "to": ["a", "b"]}]
    rows = [
        ("00", "0: layer=core", "a", 0), ("00", "0: layer=core", "a", 1),
        ("01", "1: otherwise", "a", 0), ("01", "1: otherwise", "b", 0), ("01", "1: otherwise", "b", 1),
        ("02", "none", "", 0),
    ]  # fmt: skip
    found = skipped(rows, mode="experts", routes=routes)
    assert found == {"not_routed": 2 + 0 + 3, "early_stopped": 1}
    assert len(rows) + sum(found.values()) == 3 * 4


def test_an_answer_that_is_lost_is_under_no_reason():
    rows = [("00", "", "a", 0), ("00", "", "a", 1)]  # nothing of b
    assert len(rows) + sum(skipped(rows).values()) < 4


def thinker(tmp_path, *replies, **given):
    model = FakeModel(type="fake", replies=replies)
    return spec(tmp_path, "a", model=model, structured=False, **{"thinks": Thinks(), **given})


def test_teacher_that_thinks_keeps_its_reasoning_beside_the_answer(tmp_path):
    [row] = Teacher(thinker(tmp_path, "<think>well, yes</think>\n42"))(prompts(CORE)).to_pylist()
    assert (row["reasoning"], row["answer"], row["finish_reason"], row["tokens_out"]) == ("well, yes", "42", "stop", 3)


def test_teacher_cut_off_while_it_thinks_has_no_answer(tmp_path):
    sampling = Sampling(max_tokens=2)
    [row] = Teacher(thinker(tmp_path, "<think>well, that is", sampling=sampling))(prompts(CORE)).to_pylist()
    assert (row["reasoning"], row["answer"], row["finish_reason"]) == ("well, that", "", "length")


def test_tags_are_a_way_of_reading_what_was_paid_for(tmp_path):
    told = thinker(tmp_path, "[a] b [/a] 42")
    [whole] = Teacher(told)(prompts(CORE)).to_pylist()
    section = told.section.model_copy(update={"thinks": Thinks(open="[a]", close="[/a]")})
    reader = Teacher(dataclasses.replace(told, section=section))
    [read] = reader(prompts(CORE)).to_pylist()
    assert (whole["reasoning"], whole["answer"]) == ("", "[a] b [/a] 42")
    assert (read["reasoning"], read["answer"], read["answer_id"]) == ("b", "42", whole["answer_id"])
    assert reader.client.engine is None
