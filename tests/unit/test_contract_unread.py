"""Settings that nothing would read are refused in a new contract, and leave a run that was begun with them alone."""

import json

import pytest
import yaml
from test_contract_load import TOY

from engine.contract.contract import Contract
from engine.contract.load import load_contract
from engine.errors import ContractError
from jobs import workspace

RUBRIC = {"name": "j", "model": {"type": "fake"}, "system": "Judge.", "question": "{text} {answer}"}
GOLD = [{"input": str(at), "answer": "a", "label": "right"} for at in range(8)]
RULE = {"when": {"confidence": {"min": 0.9}}, "to": "train", "reason": "sure"}
SERVER = {"type": "endpoint", "url": "http://x/v1", "path": "m", "omit": ["seed"], "rename": {"seed": "random_seed"}}
JUDGED = {"teachers.mode": "judged", "judges.rubrics": [RUBRIC]}
# changes of a contract in mode direct -> what is said
REFUSED = [
    ({"judges.rubrics": [RUBRIC]}, "judges.rubrics: in teachers.mode direct the checks alone decide; use mode judged"),
    ({"judges.calibrate": {"gold": GOLD}}, "judges.calibrate: in teachers.mode direct"),
    ({"judges.accept": {"confidence": 0.7}}, "judges.accept.confidence: in teachers.mode direct"),
    ({"judges.pools": {"rules": [RULE]}}, "judges.pools.rules.0.when.confidence: in teachers.mode direct"),
    ({"judges.pools": {"confidence_tiers": [0.9]}}, "judges.pools.confidence_tiers: in teachers.mode direct"),
    ({"budget.judge_tokens": 9}, "budget.judge_tokens: no model is asked as a judge"),
    ({"curation.pick": {"pools": []}}, "curation.pick.pools: found none"),
    ({"curation.decontaminate": {"fields": []}}, "curation.decontaminate.fields: found none"),
    ({"gate.slices": {}, "evaluation.slices": []}, "gate.slices: evaluation.slices is empty"),
    ({"gate.by": "point", "gate.students": "holm"}, "gate.students: found by: point"),
    ({"teachers.models.0.model": SERVER}, "teachers.models.0.model: omit and rename both name seed"),
]
READ = [
    {"judges.accept": {"agreement": 0.9}},
    JUDGED | {"judges.calibrate": {"gold": GOLD}, "judges.pools": {"rules": [RULE]}, "budget.judge_tokens": 9},
    {"judges.signals": {"model": {"type": "fake"}, "quality": {}}, "budget.judge_tokens": 9},
    {"curation.decontaminate": {"fields": [], "similarity": {"prompt": 0.99}}},
    {"gate.slices": {}},
    {"gate.by": "point"},
    JUDGED | {"judges.ranking": {"question": "Which?"}},  # labelled items are compared
    {"teachers.models.0.model": SERVER | {"rename": {"max_tokens": "max_completion_tokens"}}},
]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(TOY))
    return str(tmp_path / "toy.yaml")


def words(changes):
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_nothing_reads_is_refused(path, changes, said):
    with pytest.raises(ContractError) as refused:
        load_contract(path, words(changes))
    assert f"1 problem(s):\n  {said}" in str(refused.value)


@pytest.mark.parametrize("changes", READ)
def test_what_something_reads_is_not(path, changes):
    load_contract(path, words(changes))


def test_a_run_that_was_begun_with_such_a_setting_goes_on(path, tmp_path):
    changes = words({"judges.rubrics": [RUBRIC]})
    with pytest.raises(ContractError, match=r"judges.rubrics: in teachers.mode direct"):
        workspace.create(path, str(tmp_path / "run"), profile="laptop", changes=changes)
    raw = TOY | {"judges": TOY["judges"] | {"rubrics": [RUBRIC]}}
    work = workspace.create(path, str(tmp_path / "run"), profile="laptop", changes=[])
    work.__class__(**{**work.__dict__, "contract": Contract.model_validate(raw)}).save()
    assert workspace.create(path, str(tmp_path / "run"), profile="laptop", changes=changes).contract.judges.rubrics
    assert workspace.reopen(str(tmp_path / "run")).contract.judges.rubrics


def test_a_run_whose_profile_no_cluster_can_follow_opens(path, tmp_path):
    work = workspace.create(path, str(tmp_path / "run"), profile="laptop", changes=[])
    odd = work.profile.model_validate({"name": "p", "teacher": {"gpus": 1.5}, "trainers": {"s": {"gpus": 1, "pipeline": 2}}})
    work.__class__(**{**work.__dict__, "profile": odd}).save()
    assert workspace.reopen(str(tmp_path / "run")).profile.teacher.gpus == 1.5
