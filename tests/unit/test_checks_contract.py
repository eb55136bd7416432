"""Check sections of a contract: impossible settings are refused with a message that says what to change."""

from typing import get_args

import pytest

from engine.contract.checks import Check
from engine.contract.load import parse_contract
from engine.contract.renames import CHECKS
from engine.errors import ContractError
from tests.unit.test_contract_load import TOY


def contract(tmp_path, *checks, room="judges", source=None, **prompts):
    raw = {**TOY, room: {**TOY.get(room, {}), "checks": list(checks)}}
    raw["prompts"] = {**raw["prompts"], **prompts}
    if source:
        raw["prompts"]["sources"] = [{**raw["prompts"]["sources"][0], **source}]
    return parse_contract(raw, where=tmp_path)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ({"type": "regex", "pattern": "(a"}, "'(a' is not a regular expression: missing ) at position 2; correct it"),
        ({"type": "numeric", "unit": "flurbs"}, "'flurbs' is not a unit that pint knows; write it as in kg"),
        ({"type": "numeric", "min": 2, "max": 1}, "min and max: found 2 > 1, so no number passes; swap them"),
        ({"type": "numeric", "rel_tol": 0.1}, "a tolerance needs a reference; add reference: {}"),
        ({"type": "numeric", "reference": {"value": "1", "pattern": "(a)"}}, "found value and pattern, expected one of them"),
        ({"type": "numeric", "reference": {"pattern": "a"}}, "'a': found 0 groups (...), expected 1: what is compared"),
        ({"type": "citations", "passage_pattern": "(a)"}, "found 1 groups (...), expected 2: the id of a passage, and its text"),
        ({"type": "language", "allowed": ["english"]}, "'english' is not a language that py3langid identifies; expected one of"),
        ({"type": "length"}, "min and max: found neither, so everything passes; give one"),
        ({"type": "length", "min": 3, "max": 2}, "found 3 > 2, so nothing passes"),
        ({"type": "policy", "banned": []}, "banned"),
        ({"type": "refusal", "scenarios": ["a"], "reference": {}}, "found both, expected one"),
        ({"type": "code", "isolation": ["moat"]}, "Input should be 'landlock', 'seccomp' or 'namespaces'"),
        ({"type": "code", "memory": 3}, "memory: unknown key. Did you mean 'memory_mib'?"),
        ({"type": "cod"}, "cod"),
        (
            {"type": "policy", "banned": ["x"], "task_units": ["sum"]},
            "judges.checks.0.task_units: found ['sum'], expected some of ['count']",
        ),
        ({"type": "math"}, "judges.checks.0: math compares with each prompt's own reference, and prompts of"),
        ({"type": "sql", "setup": {"field": "tables"}, "reference": {"value": "select 1"}}, "sql compares with each prompt's own"),
    ],
)
def test_impossible_check_is_refused_with_what_to_change(tmp_path, check, message):
    with pytest.raises(ContractError) as caught:
        contract(tmp_path, check)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "check", [{"type": "math", "reference": {"value": "1"}}, {"type": "math", "reference": {"missing": "pass"}}]
)
def test_check_needs_no_reference_of_the_prompts_where_it_has_its_own(tmp_path, check):
    assert contract(tmp_path, check).judges.checks[0].title == "math"


def test_reference_of_a_source_serves_the_judges_and_the_holdout_always_has_one(tmp_path):
    assert contract(tmp_path, {"type": "math"}, source={"columns": {"text": "a", "reference": "b"}}).judges.checks
    assert contract(tmp_path, {"type": "math"}, room="evaluation").evaluation.checks


def test_evaluation_tells_its_checks_apart(tmp_path):
    two = [{"type": "policy", "banned": ["a"]}, {"type": "policy", "banned": ["b"]}]
    with pytest.raises(ContractError, match="give one of them a `name`"):
        contract(tmp_path, *two, room="evaluation")
    assert contract(tmp_path, two[0], two[1] | {"name": "other"}, room="evaluation").evaluation.checks[1].title == "other"


def test_every_renamed_key_of_a_check_exists_under_its_new_name():
    fields = {name for kind in get_args(get_args(Check)[0]) for name in kind.model_fields}
    assert set(CHECKS.values()) <= fields and not set(CHECKS) & fields - {"words"}
