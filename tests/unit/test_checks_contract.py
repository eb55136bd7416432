"""What a contract may order of checks; what makes no sense is refused with what to do."""

import pytest

from engine.contract import Contract
from engine.contract.load import parse
from engine.errors import ContractError
from tests.unit.test_contract_load import TOY


def contract(tmp_path, *checks, room="judges", source=None, **prompts):
    raw = {**TOY, room: {**TOY.get(room, {}), "checks": list(checks)}}
    raw["prompts"] = {**raw["prompts"], **prompts}
    if source:
        raw["prompts"]["sources"] = [{**raw["prompts"]["sources"][0], **source}]
    return parse(Contract, raw, where=tmp_path)


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ({"type": "regex", "pattern": "(a"}, "'(a' is not a regular expression: missing ) at position 2; mend it"),
        ({"type": "numeric", "unit": "flurbs"}, "'flurbs' is not a unit that pint knows; write it as in kg"),
        ({"type": "numeric", "low": 2, "high": 1}, "low and high: found 2 > 1, so no number passes; swap them"),
        ({"type": "numeric", "relative": 0.1}, "there is nothing to be near to; add reference: {}"),
        ({"type": "numeric", "reference": {"value": "1", "pattern": "(a)"}}, "found value and pattern, expected one of them"),
        ({"type": "numeric", "reference": {"pattern": "a"}}, "'a': found 0 groups (...), expected 1: what is compared"),
        ({"type": "citations", "passages": "(a)"}, "found 1 groups (...), expected 2: the id of a passage, and its text"),
        ({"type": "language", "of": ["english"]}, "'english' is no language that can be told; expected one of"),
        ({"type": "length"}, "low and high: found neither, so everything passes; give one"),
        ({"type": "length", "low": 3, "high": 2}, "found 3 > 2, so nothing passes"),
        ({"type": "policy", "bar": []}, "bar"),
        ({"type": "refusal", "scenarios": ["a"], "reference": {}}, "found both, expected one"),
        ({"type": "code", "walls": ["moat"]}, "Input should be 'landlock', 'seccomp' or 'namespaces'"),
        ({"type": "code", "memory": 3}, "memory: unknown key. Did you mean 'memory_mib'?"),
        ({"type": "cod"}, "cod"),
        (
            {"type": "policy", "bar": ["x"], "task_units": ["sum"]},
            "judges.checks.0.task_units: found ['sum'], expected some of ['count']",
        ),
        ({"type": "math"}, "judges.checks.0: math compares with each prompt's own reference, and prompts of"),
        ({"type": "sql", "setup": {"field": "tables"}, "reference": {"value": "select 1"}}, "sql compares with each prompt's own"),
    ],
)
def test_check_that_makes_no_sense_is_refused_with_what_to_do(tmp_path, check, said):
    with pytest.raises(ContractError) as caught:
        contract(tmp_path, check)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "check", [{"type": "math", "reference": {"value": "1"}}, {"type": "math", "reference": {"missing": "pass"}}]
)
def test_check_needs_no_reference_of_the_prompts_where_it_has_its_own(tmp_path, check):
    assert contract(tmp_path, check).judges.checks[0].title == "math"


def test_reference_of_a_source_serves_the_judges_and_the_holdout_always_has_one(tmp_path):
    assert contract(tmp_path, {"type": "math"}, source={"columns": {"text": "a", "reference": "b"}}).judges.checks
    assert contract(tmp_path, {"type": "math"}, room="evaluation").evaluation.checks


def test_evaluation_tells_its_checks_apart(tmp_path):
    two = [{"type": "policy", "bar": ["a"]}, {"type": "policy", "bar": ["b"]}]
    with pytest.raises(ContractError, match="give one of them a `name`"):
        contract(tmp_path, *two, room="evaluation")
    assert contract(tmp_path, two[0], two[1] | {"name": "other"}, room="evaluation").evaluation.checks[1].title == "other"
