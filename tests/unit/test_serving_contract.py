"""The section `serving`: off by default, in no hash while it is, and its models exist."""

from pathlib import Path

import pytest

from engine.contract.load import load_contract
from engine.errors import ContractError

SMOKE = Path(__file__).parents[2] / "jobs" / "contracts" / "smoke.yaml"


def loaded(*changes):
    return load_contract(SMOKE, list(changes)).contract


def test_section_is_left_out_of_dumps_until_it_is_written():
    assert loaded().serving is None and "serving" not in loaded().model_dump(mode="json")
    contract = loaded("serving.cascade.alpha=0.15", "serving.monitor={}")
    assert contract.model_dump(mode="json")["serving"]["cascade"]["alpha"] == 0.15
    assert contract.serving.shadow is None and contract.serving.monitor.delta == 0.05


def test_stages_are_models_of_the_contract_the_champion_or_a_person():
    stages = "serving.cascade.stages=[{to: champion}, {to: s}, {to: smol}, {to: person}]"
    assert [stage.to for stage in loaded(stages).serving.cascade.stages] == ["champion", "s", "smol", "person"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("serving.cascade.stages=[{to: nobody}]", "serving.cascade.stages.0.to: found 'nobody', expected one of"),
        ("serving.cascade.stages=[{to: person}, {to: s}]", "expected `person` last"),
        ("serving.cascade.stages=[{to: s}, {to: s}]", "tos must differ"),
        ("serving.shadow.challenger=other", "serving.shadow.challenger: found 'other'"),
        ("serving.cascade.alpha=0", "greater than 0"),
        ("serving.cascade.niche.rules=[{name: a, pattern: '('}]", "is not a regular expression"),
    ],
)
def test_what_cannot_be_served_is_refused(change, message):
    with pytest.raises(ContractError, match=message.replace("(", r"\(")):
        loaded(change)
