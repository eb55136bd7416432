"""What the student shall say: canonical JSON, what stood before it, what is not known."""

import pytest

from engine.contract.curation import Pick
from engine.contract.specialist import Output, Specialist, TaskUnit
from engine.curation.represent import examples, represent, split
from engine.rows import PICKED, from_rows

SCHEMA = {
    "type": "object",
    "properties": {
        "order_number": {"type": ["string", "null"]},
        "product": {"type": "object", "properties": {"name": {}, "colour": {}}},
        "quantity": {},
    },
}

UNKNOWN = "not stated: order number, quantity"


def unit(**more):
    return TaskUnit(name="order", kind="extraction", instruction="Fill in.", output=Output(json_schema=SCHEMA), **more)


@pytest.mark.parametrize(
    ("answer", "final", "rationale", "limits"),
    [
        ('{ "quantity": 3,\n "order_number": "A1" }', '{"order_number":"A1","quantity":3}', "", ""),
        ('{"product": {"colour": "r\u00f6d", "name": "x"}}', '{"product":{"name":"x","colour":"r\u00f6d"}}', "", ""),
        ('{"quantity": null, "order_number": null}', '{"order_number":null,"quantity":null}', "", UNKNOWN),
        ('The mail {says} three.\n{"quantity": 3}', '{"quantity":3}', "The mail {says} three.", ""),
        ('{"zeta": 1, "alpha": 2, "quantity": 3}', '{"quantity":3,"alpha":2,"zeta":1}', "", ""),
        ("  no JSON here ", "no JSON here", "", ""),
        ('{"cut off": ', '{"cut off":', "", ""),
    ],
)
def test_represent_of_a_json_answer(answer, final, rationale, limits):
    assert represent(answer, unit()) == (final, rationale, limits)


def test_represent_of_free_text_is_the_text():
    free = TaskUnit(name="t", kind="rewrite")
    assert represent(' {"b": 1, "a": 2} ', free) == ('{"b": 1, "a": 2}', "", "")


def picked(**more):
    row = {
        "answer_id": "a1", "prompt_id": "p1", "task_unit": "order", "messages": [{"role": "user", "content": "mail"}],
        "text": "mail", "layer": "core", "difficulty": "easy", "answer": 'because {"quantity": 1}', "pool": "train",
        "cluster": 2, "dropped_by": "",
    }  # fmt: skip
    return row | more


@pytest.mark.parametrize(("supervise", "target"), [("answer", '{"quantity":1}'), ("process", 'because\n{"quantity":1}')])
def test_examples_target_follows_how_the_task_unit_is_supervised(supervise, target):
    specialist = Specialist(goal="g", task_units=(unit(supervise=supervise),))
    (row,) = examples(from_rows([picked(), picked(dropped_by="exact")], PICKED), specialist, Pick(), seed=0).to_pylist()
    assert row["target"] == target and row["final"] == '{"quantity":1}' and row["example_id"] == "a1"
    assert row["messages"] == [{"role": "system", "content": "Fill in."}, {"role": "user", "content": "mail"}]


@pytest.mark.parametrize(("more", "weight"), [({}, 1.0), ({"difficulty": "hard"}, 2.5), ({"pool": "hard"}, 2.5)])
def test_hard_examples_weigh_more(more, weight):
    specialist = Specialist(goal="g", task_units=(unit(),))
    made = examples(from_rows([picked(**more)], PICKED), specialist, Pick(hard_weight=2.5), seed=0)
    assert made["weight"].to_pylist() == [weight]


def test_hard_examples_stand_several_times_in_the_training_split_only():
    specialist, rows = Specialist(goal="g", task_units=(unit(),)), from_rows([picked(difficulty="hard")], PICKED)
    made = examples(rows, specialist, Pick(hard_copies=3, validation=0.0), seed=0)
    assert made["example_id"].to_pylist() == ["a1", "a1-again1", "a1-again2"]
    assert len(set(made["target"].to_pylist())) == 1
    assert len(examples(rows, specialist, Pick(hard_copies=3, validation=1.0), seed=0)) == 1
    assert len(examples(from_rows([picked()], PICKED), specialist, Pick(hard_copies=3, validation=0.0), seed=0)) == 1


def test_weights_of_the_side_that_is_balanced_multiply_those_of_hard_cases():
    specialist, rows = Specialist(goal="g", task_units=(unit(),)), from_rows([picked(difficulty="hard")], PICKED)
    weighed = examples(rows, specialist, Pick(hard_weight=2.0, balance="cluster"), seed=0, weights={"2": 1.5})
    assert weighed["weight"].to_pylist() == [3.0]


def test_split_is_a_share_by_hash_that_depends_on_the_seed():
    ids = [f"p{n}" for n in range(2000)]
    held = [split(one, share=0.1, seed=0) == "validation" for one in ids]
    assert 140 < sum(held) < 260
    assert held != [split(one, share=0.1, seed=1) == "validation" for one in ids]
    assert {split(one, share=0.0, seed=0) for one in ids} == {"train"}
    assert {split(one, share=1.0, seed=0) for one in ids} == {"validation"}
