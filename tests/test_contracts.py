"""Every contract and profile of the repository loads, and what a contract names is there."""

from pathlib import Path

import pytest

from engine.contract.load import load_contract
from engine.contract.profile import load_profile
from jobs.commands import check
from jobs.pipeline import pipeline

ROOT = Path(__file__).parents[1]
CONTRACTS = sorted((ROOT / "jobs" / "contracts").glob("*.yaml"))
PROFILES = sorted([*(ROOT / "cluster" / "profiles").glob("*.yaml"), *(ROOT / "tests").glob("**/profile*.yaml")])


def by_name(path):
    return path.relative_to(ROOT).as_posix()


def test_there_are_contracts_and_profiles():
    assert {"smoke.yaml", "order_mail.yaml"} <= {path.name for path in CONTRACTS}
    assert {"laptop.yaml", "gpu-node.yaml", "cluster.yaml"} <= {path.name for path in PROFILES}


@pytest.mark.parametrize("path", CONTRACTS, ids=by_name)
def test_contract_loads_and_what_it_names_is_there(path, tmp_path):
    loaded = load_contract(path)
    check.verify(loaded.contract, root=str(loaded.root), models=str(tmp_path))


@pytest.mark.parametrize("path", CONTRACTS, ids=by_name)
def test_contract_makes_a_line_whose_needs_are_made_before(path):
    made = set()
    for job in pipeline(load_contract(path).contract):
        assert set(job.needs) <= made
        made.add(job.name)


@pytest.mark.parametrize("path", PROFILES, ids=by_name)
def test_profile_loads(path):
    assert load_profile(path).name
