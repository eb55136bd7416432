"""Counter-examples: one fact is removed, the others stay, and both are verified."""

import pytest

from engine.prompts import ablate_fact
from engine.prompts.conversation import RowReject
from tests.unit.test_prompts_synthesis import FORM, SEEDS, children, dispositions, synthesis, written


def test_counter_example_by_rule_lacks_one_fact_and_keeps_the_others(tmp_path):
    labelled = written(tmp_path, synthesis("counter_example", model=None), wanted={("counter_example", "failure_mode"): 3})
    rows = children(labelled)
    assert len(rows) == 3
    for row in rows:
        assert (row["disposition"], row["layer"]) == ("prompts", "failure_mode")
        removed = row["scenario"].removeprefix("missing_")
        left = {fact.field: fact.values for fact in ablate_fact.removable_facts(row["text"], FORM)}
        parent = next(seed for seed in labelled.to_pylist() if seed["prompt_id"] == row["parent_id"])
        before = {fact.field: fact.values for fact in ablate_fact.removable_facts(parent["text"], FORM)}
        assert set(before) == {"number", "count"} and left == {name: values for name, values in before.items() if name != removed}


def test_counter_example_that_cannot_be_verified_is_rejected(tmp_path):
    seeds, one = ["Send 12 lamps under 40127 today", "Thank you all"], synthesis("counter_example", model=None)
    labelled = written(tmp_path, one, seeds=seeds, wanted={("counter_example", "failure_mode"): 2})
    details = {row["detail"] for row in children(labelled)}
    assert dispositions(labelled) == ["synthesis_unproven"] * 2
    assert "it states no fact whose absence could be proven" in details and len(details) == 2


def test_counter_example_of_a_model_is_kept_only_if_the_fact_is_absent(tmp_path):
    seed = "We want 12 lamps under 40127 and a van from the yard on Monday"
    wanted = {("counter_example", "failure_mode"): 1}
    replies = {
        "number": "We want 12 lamps, and bring a van to the yard, on a Monday if that can be",
        "count": "We want lamps under 40127 soon, all of them",
        "nothing": seed + " please",
        "both": "We would like some lamps, if you please",
    }
    rows = {}
    for name, reply in replies.items():
        (rows[name],) = children(written(tmp_path / name, synthesis("counter_example", reply), seeds=[seed], wanted=wanted))
    (kept,) = [name for name, row in rows.items() if row["disposition"] == "prompts"]
    assert kept in ("number", "count") and rows[kept]["scenario"] == f"missing_{kept}"
    assert {row["disposition"] for name, row in rows.items() if name != kept} == {"synthesis_unproven"}


@pytest.mark.parametrize(
    ("text", "field", "rest"),
    [
        ("Item: lamps\nCount: 12\nNumber: 40127\nBye", "count", "Item: lamps\nNumber: 40127\nBye"),
        ("Hi, 12 lamps please. It is no. 40127. Bye, Jo", "number", "Hi, 12 lamps please. Bye, Jo"),
        ("Could you get us 12 lamps? Book 40127.\nBest, Jo", "number", "Could you get us 12 lamps?\nBest, Jo"),
        ("12 lamps, order 40127, to York", "count", "order 40127, to York"),
    ],
)
def test_remove_fact_removes_sentences_or_else_clauses(text, field, rest):
    fact = next(fact for fact in ablate_fact.removable_facts(text, FORM) if fact.field == field)
    assert ablate_fact.remove_fact(text, fact, FORM) == rest


def test_field_of_free_text_is_not_removable():
    assert [fact.field for fact in ablate_fact.removable_facts(SEEDS[0], FORM)] == ["number", "count"]
    with pytest.raises(RowReject, match="synthesis_unproven"):
        ablate_fact.choose_fact("Lamps to York please", FORM, seed=1)
