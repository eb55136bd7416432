"""How teachers work together, as the contract says it: what cannot work is refused with the way out."""

import pytest

from engine.contract.load import parse_contract
from engine.errors import ContractError
from tests.unit.test_contract_load import TOY

RUBRIC = {"name": "j", "model": {"type": "fake"}, "system": "Judge.", "question": "{text} {answer}"}
TWO = [{"name": name, "model": {"type": "fake"}} for name in ("a", "b")]
BANK = [{"input": "one", "to": "a"}, {"input": "two", "to": ["a", "b"]}]


def contract(tmp_path, judges=None, **teachers):
    raw = {**TOY, "teachers": {"models": TWO, **teachers}, "judges": judges or {}}
    return parse_contract(raw, where=tmp_path)


def test_experts_are_routed_by_conditions_or_by_the_nearest_label(tmp_path):
    routes = [
        {"when": {"layer": "core", "difficulty": ["easy", "medium"]}, "to": "a"},
        {"nearest": {"bank": BANK, "min_cosine": 0.5}},
    ]
    first, second = contract(tmp_path, mode="experts", routes=routes).teachers.routes or ()
    assert first.when and first.when.conditions == {"layer": ("core",), "difficulty": ("easy", "medium")}
    assert (first.reaches, second.reaches) == ({"a"}, {"a", "b"})


@pytest.mark.parametrize("name", ["synthesis", "signals", "rewrite", "capture", "on_policy", "evidence"])
def test_names_under_which_other_tokens_are_counted_are_no_teachers(tmp_path, name):
    with pytest.raises(ContractError, match=rf"teachers.models.0.name: .*found '{name}', under which other tokens of a run are"):
        contract(tmp_path, mode="direct", models=[{"name": name, "model": {"type": "fake"}}])
    rubrics = {"rubrics": [{**RUBRIC, "name": name}]}  # synthesis and the like are counted apart from the judges' tokens
    if name not in ("signals", "evidence"):
        assert contract(tmp_path, judges=rubrics)
        return
    with pytest.raises(ContractError, match=rf"judges.rubrics.0.name: .*found '{name}'"):
        contract(tmp_path, judges=rubrics)


ALL = {"when": {}, "to": ["a", "b"]}


@pytest.mark.parametrize(
    ("teachers", "said"),
    [
        ({"mode": "experts"}, "routes: mode experts needs at least one rule"),
        ({"mode": "experts", "routes": []}, "routes: mode experts needs at least one rule"),
        ({"mode": "experts", "routes": [{"when": {}, "to": ["a", "c"]}]}, "routes.0: found ['c'], expected teachers of models"),
        ({"mode": "experts", "routes": [{"when": {}, "to": "a"}]}, "routes: no rule leads to ['b']"),
        ({"mode": "experts", "routes": [{"to": "a"}]}, "found ['to'], expected either `when` and `to`, or `nearest`"),
        ({"mode": "experts", "routes": [{"when": {}}]}, "found ['when'], expected either"),
        ({"mode": "experts", "routes": [{**ALL, "nearest": {"bank": BANK}}]}, "expected either"),
        (
            {"mode": "experts", "routes": [{**ALL, "when": {"layer": "mid"}}]},
            "Input should be 'core', 'failure_mode' or 'long_tail'",
        ),
        ({"mode": "experts", "routes": [{**ALL, "when": {"lair": "core"}}]}, "lair: unknown key. Did you mean 'layer'?"),
        ({"mode": "experts", "routes": [{**ALL, "when": {"task_unit": ["sum"]}}]}, "found ['sum'], expected some of ['count']"),
        ({"mode": "direct", "routes": [ALL]}, "routes: only mode experts has a router, found mode direct"),
        ({"mode": "competition", "models": TWO[:1]}, "models: found 1 teacher, mode competition needs two or more"),
        ({"mode": "competition"}, "judges.rubrics: is needed in teachers.mode competition"),
        ({"mode": "direct", "models": [{**TWO[0], "thinks": {}}]}, "thinks: structured decoding allows no reasoning"),
    ],
)
def test_teachers_that_cannot_work_together_are_refused(tmp_path, teachers, said):
    with pytest.raises(ContractError) as caught:
        contract(tmp_path, **teachers)
    assert said in str(caught.value)


def test_competition_is_marked_by_a_rubric(tmp_path):
    assert contract(tmp_path, mode="competition", judges={"rubrics": [RUBRIC]}).teachers.mode == "competition"


@pytest.mark.parametrize("place", ["rubrics.0", "ranking"])
def test_question_of_an_unknown_task_unit_is_refused(tmp_path, place):
    own = {"by_task_unit": {"sum": "Right?"}}
    judges = {"rubrics": [{**RUBRIC, **(own if place == "rubrics.0" else {})}]}
    judges |= {"ranking": {"question": "{first} {second}", **own}} if place == "ranking" else {}
    with pytest.raises(ContractError, match=rf"judges.{place}.by_task_unit: found \['sum'\], expected some of \['count'\]"):
        contract(tmp_path, judges=judges)


def test_teacher_that_thinks_has_the_usual_tags(tmp_path):
    models = [{**TWO[0], "structured": False, "thinks": {}}]
    [teacher] = contract(tmp_path, mode="direct", models=models).teachers.models
    assert teacher.thinks and (teacher.thinks.open, teacher.thinks.close) == ("<think>", "</think>")
