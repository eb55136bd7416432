"""Several teachers at one prompt: what relates them, what sends them to a person, and what is made of answers that complete each
other."""

import dataclasses
import json

import pyarrow as pa
import pytest

from engine.contract.judges import Judges
from engine.contract.pools import Relations
from engine.contract.profile import Pool
from engine.contract.specialist import Output, Specialist, TaskUnit
from engine.grading.cross_teacher import count_relations
from engine.grading.grader import Grader
from engine.grading.relations import Relation, merge, relate
from engine.judges.grader_spec import GraderSpec
from engine.rows import ANSWER, CANDIDATE, RELATIONS

RULES = Relations()


def form(**fields):
    return json.dumps({"number": None, "item": None, "gift": None} | fields)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (form(number="7", item="lamp"), form(number=" 7", item="Lamp"), Relation("agree")),
        (form(number="7"), form(number="7", item="lamp"), Relation("complementary")),
        (form(number="7"), form(item="lamp"), Relation("unrelated")),
        (form(number="7"), form(number="8"), Relation("conflicting", ("facts",))),
        (form(number="7", gift=True), form(number="7", gift=False), Relation("conflicting", ("conditions",))),
        (form(), form(number="7"), Relation("conflicting", ("conclusion",))),
        (form(number="7", gift=True), form(number="8", gift=False), Relation("conflicting", ("facts", "conditions"))),
        ("The lamp costs 5 euros.", "The lamp costs 5 euros", Relation("agree")),
        ("The lamp costs 5 euros.", "The lamp costs 6 euros.", Relation("conflicting", ("facts", "conclusion"))),
        ("You may return the lamp.", "You may not return the lamp.", Relation("conflicting", ("conditions",))),
        ("You may return it.", "You may return it unless it was used.", Relation("conflicting", ("conditions",))),
        ("Add both. The answer is 12.", "Multiply them. The answer is 15.", Relation("conflicting", ("facts", "conclusion"))),
        ("Yes.", "No.", Relation("conflicting", ("conclusion",))),
        ("billing", "shipping", Relation("conflicting", ("conclusion",))),
        ("The lamp costs 5 euros.", "The lamp costs 5 euros. It is sent on Friday by van.", Relation("complementary")),
        ("The lamp costs 5 euros.", "Our opening hours change every summer.", Relation("unrelated")),
        ("The lamp costs 1,000.50 euros.", "The lamp costs 1000.5 euros.", Relation("agree")),
    ],
)  # fmt: skip
def test_relation_of_two_answers_is_named_with_what_they_contradict_on(one, other, expected):
    assert relate([one, other], RULES) == expected == relate([other, one], RULES)
    assert expected.relation in RELATIONS


def test_relation_of_several_is_that_of_the_worst_pair():
    assert relate([form(number="7"), form(number="7", item="lamp"), form(number="8")], RULES).relation == "conflicting"
    assert relate([form(number="7"), form(number="7")], RULES) == Relation("agree")
    assert relate([form(number="7")], RULES) == Relation("")


def test_merged_form_has_the_fields_that_either_states():
    assert json.loads(merge([form(number="7"), form(number="7", item="lamp")], RULES)) == {
        "number": "7",
        "item": "lamp",
        "gift": None,
    }


def test_merged_text_gains_only_what_was_not_said():
    answer = merge(["The lamp costs 5 euros.", "The lamp costs 5 euros. It is sent on Friday by van."], RULES)
    assert answer == "The lamp costs 5 euros. It is sent on Friday by van."


SCHEMA = {"type": "object", "required": ["number", "item"]}


def graded(tmp_path, *rows, competes=False, **relations):
    """CANDIDATE rows of answers to one prompt; each is (teacher, answer)."""
    unit = TaskUnit(name="form", kind="extraction", output=Output(json_schema=SCHEMA))
    section = Judges.model_validate({"checks": [{"type": "grounded"}], "pools": {"relations": relations}})
    spec = GraderSpec(section=section, specialist=Specialist(goal="g", task_units=(unit,)), pool=Pool())
    plain = dict.fromkeys(ANSWER.names) | {
        "task_unit": "form",
        "text": "send 7 lamp or 8",
        "prompt_id": "p",
        "finish_reason": "stop",
    }
    rows = [plain | {"answer_id": f"a{n}", "teacher": name, "answer": text, "sample": 0} for n, (name, text) in enumerate(rows)]
    return Grader(dataclasses.replace(spec, competes=competes))(pa.Table.from_pylist(rows, schema=ANSWER)).to_pylist()


def ends(rows):
    return [(row["pool"], row["reasons"], row["relation"]) for row in rows]


def test_teachers_that_contradict_each_other_go_to_a_person(tmp_path):
    result = graded(tmp_path, ("t", form(number="7")), ("u", form(number="8")), ("v", "nonsense"))
    assert ends(result) == [
        ("review", ["conflict_facts"], "conflicting"),
        ("review", ["conflict_facts"], "conflicting"),
        ("failure", ["not_json"], ""),
    ]


def test_conflicts_can_be_kept(tmp_path):
    result = graded(tmp_path, ("t", form(number="7")), ("u", form(number="8")), conflicts="keep")
    assert ends(result) == [("train", ["accepted"], "conflicting")] * 2


def test_samples_of_one_teacher_are_no_conflict(tmp_path):
    assert {row["relation"] for row in graded(tmp_path, ("t", form(number="7")), ("t", form(number="8")))} == {""}


def test_teacher_speaks_by_what_most_of_its_samples_say(tmp_path):
    rows = [("t", form(number="7")), ("t", form(number="7")), ("t", form(number="8")), ("u", form(number="7"))]
    assert [row["relation"] for row in graded(tmp_path, *rows)] == ["agree"] * 4


def test_merged_answer_is_extra_and_names_its_parents(tmp_path):
    result = graded(tmp_path, ("t", form(number="7")), ("u", form(number="7", item="lamp")), merge=True)
    assert [row["pool"] for row in result] == ["contrast", "contrast", "train"]
    merged = result[-1]
    assert json.loads(merged["answer"]) == {"number": "7", "item": "lamp", "gift": None}
    assert (sorted(merged["parents"]), merged["reasons"], merged["teacher"]) == (["a0", "a1"], ["accepted", "merged"], "")
    again = graded(tmp_path, ("u", form(number="7", item="lamp")), ("t", form(number="7")), merge=True)[-1]
    assert again["answer_id"] == merged["answer_id"]  # of the parents, whatever their order
    assert count_relations([pa.Table.from_pylist(result, schema=CANDIDATE)]) == ({"complementary": 1}, {}, 1)


def test_surest_answers_that_contradict_each_other_are_not_merged(tmp_path):
    often, sure = form(number="7", item="lamp"), form(number="8")
    rows = [("t", form(number="7")), ("u", often), ("u", often), ("u", sure)]
    result = graded(tmp_path, *rows, merge=True)
    assert len(result) == 5 and {json.loads(row["answer"])["number"] for row in result if row["parents"]} == {"7"}
    result = graded(tmp_path, ("t", form(number="7")), ("u", often), ("u", sure), merge=True)
    assert not any(row["parents"] and '"8"' in row["answer"] for row in result)


def test_answer_that_fails_a_check_is_not_merged(tmp_path):
    result = graded(tmp_path, ("t", form(number="7")), ("u", form(number="7", item="chair")), merge=True)
    assert [row["pool"] for row in result] == ["train", "contrast"]  # the second invents; there is nothing to complete
