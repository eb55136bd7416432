"""Contracts whose evidence cannot work are refused with the place and the way out; what is paid is listed."""

from typing import Any

import pytest
import yaml
from evidence_world import gold
from made_run import YAML
from pydantic import ValidationError

from engine.contract.consumers import consumers
from engine.contract.contract import Contract

TEACHER = {"name": "t", "model": {"type": "fake"}}
SERVER = {"type": "endpoint", "url": "http://host/v1", "path": "gpt"}
EVIDENCE = {"evidence": {}, "calibrate": {"gold": gold(8)}}


def contract(*, teachers: Any = None, judges: Any = None) -> Contract:
    order = yaml.safe_load(YAML)
    order["teachers"] = {"mode": "judged", "models": [TEACHER], **(teachers or {})}
    return Contract.model_validate({**order, "judges": {**EVIDENCE, **(judges or {})}})


def test_judged_mode_needs_rubrics_or_evidence() -> None:
    assert contract().judges.evidence
    with pytest.raises(ValidationError, match="add one or use mode direct"):
        contract(judges={"evidence": None})


@pytest.mark.parametrize(
    ("teachers", "judges", "message"),
    [
        ({"mode": "direct"}, {}, "the checks alone decide; use mode judged"),
        ({}, {"evidence": {"of": ["teachers"]}}, "t is the only one"),
        ({"models": [{**TEACHER, "thinks": {}, "structured": False}]}, {}, "t reasons before it answers"),
        ({"mode": "tools", "tools": [{"type": "calculator"}]}, {}, "teachers call tools"),
        ({}, {"evidence": {"readers": [TEACHER]}}, r"found \['t'\], which are teachers"),
        (
            {"models": [{"name": "t", "model": {"type": "llama_cpp", "path": "x"}}]},
            {},
            "of: t: gives no log-probabilities of given",
        ),
        ({"models": [{"name": "t", "model": {**SERVER, "logprobs": False}}]}, {}, "of: t: gives no log-probabilities of given"),
        ({"models": [{"name": "t", "model": SERVER}]}, {}, "evidence.tokenizers.t: is needed"),
        ({}, {"evidence": {"readers": [{"name": "r", "model": SERVER}]}}, "evidence.tokenizers.r: is needed"),
    ],
)
def test_evidence_that_cannot_work_is_refused(teachers: Any, judges: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        contract(teachers=teachers, judges=judges)


def test_evidence_without_likelihoods_suits_a_teacher_that_reasons() -> None:
    thinks = {"models": [{**TEACHER, "thinks": {}, "structured": False}]}
    assert contract(teachers=thinks, judges={"evidence": {"of": ["agreement", "length"]}}).judges.evidence


def test_what_cannot_read_may_still_agree_and_a_student_may_read() -> None:
    server = {"models": [{"name": "t", "model": {**SERVER, "logprobs": False}}]}
    assert contract(teachers=server, judges={"evidence": {"of": ["agreement"]}}).judges.evidence
    assert contract(teachers={"models": [{"name": "t", "model": SERVER}]}, judges={"evidence": {"tokenizers": {"t": "folder"}}})
    student = {"name": "s", "model": {"type": "student", "run": "runs/earlier", "name": "s"}}
    assert contract(judges={"evidence": {"readers": [student]}}).judges.evidence


def test_all_that_is_paid_is_listed() -> None:
    reader = {"name": "r", "model": {"type": "fake", "path": "other"}}
    listed = list(consumers(contract(judges={"evidence": {"readers": [reader]}})))
    assert [(each.kind, each.payee, each.cap) for each in listed] == [
        ("teacher", "t", "teacher_tokens"),
        ("evidence", "r", "judge_tokens"),
        ("evidence", "evidence", "judge_tokens"),
    ]
    assert [each.kind for each in consumers(contract(judges={"evidence": {"of": ["length"]}}))] == ["teacher"]
