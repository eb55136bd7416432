"""The model around the policy's loss, and the recipe of a round. DeepSpeed and whole rounds: `tests/line/test_on_policy.py`."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engine.contract.objectives import Objectives
from engine.contract.on_policy import OnPolicy
from engine.contract.students import Student
from engine.students.data.pack import Packed, Policy, collate
from engine.students.on_policy import rollouts
from engine.students.training import policy_round, zero
from engine.students.training.loss_module import START, LossModule
from engine.students.training.policy_round import student_of_round
from engine.students.training.state import RoundSpec

GRPO = OnPolicy(objective="grpo", rewards={"c": 1})


def packed() -> Packed:
    """Three samples of 3, 1 and 4 tokens behind prompts of two."""
    lengths = np.asarray([5, 3, 6])
    nothing = np.zeros(8, np.float32)
    return Packed(
        ids=np.arange(14, dtype=np.int32) + 3, starts=np.cumsum([0, *lengths]), targets=np.full(3, 2, np.int32),
        weights=np.ones(3, np.float32), stages=np.zeros(3, np.int32), too_long=0,
        policy=Policy(np.asarray([1.0, -0.5, -0.5], np.float32), nothing, nothing),
    )  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1
    )
    return LlamaForCausalLM(shape)


def test_old_log_probabilities_are_those_of_the_tokens_in_any_batch(model: Any) -> None:
    net, samples = LossModule(model, Objectives(), None, GRPO), packed()
    rows = np.asarray([2, -1, 0])
    with torch.no_grad():
        found = net(collate(samples, rows, pad=0), None, None)
        alone = [net(collate(samples, np.asarray([row]), pad=0), None, None) for row in (2, 0)]
    assert torch.allclose(found, torch.cat(alone), atol=1e-5)
    assert samples.tokens_of(np.asarray([2, 0])).tolist() == [4, 5, 6, 7, 0, 1, 2]


def test_a_step_on_samples_makes_the_better_ones_more_likely(model: Any) -> None:
    net, samples, rows = LossModule(model, Objectives(), None, GRPO), packed(), np.arange(3)
    batch = collate(samples, rows, pad=0)
    with torch.no_grad():
        old = net(batch, None, None)
    assert samples.policy is not None
    policy = replace(samples.policy, old=old.numpy(), reference=old.numpy())
    batch = collate(replace(samples, policy=policy), rows, pad=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    loss = net(batch, None, START)
    assert loss.item() == pytest.approx(-3 + 0.5 + 0.5 * 4)  # the ratio is 1: minus the advantages of the tokens
    assert list(net.parts) == ["grpo"]
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        new = net(batch, None, None)
    assert (new - old)[:3].sum().item() > 0 > (new - old)[3:].sum().item()


@pytest.mark.parametrize(
    ("section", "active"),
    [
        ({"objective": "on_policy_kl", "teacher": "t"}, "reverse_kl"),
        ({"objective": "on_policy_kl", "teacher": "t", "divergence": "forward_kl"}, "forward_kl"),
        ({"objective": "on_policy_kl", "teacher": "t", "divergence": "jsd", "beta": 0.9}, "jsd"),
    ],
)
def test_a_round_has_the_divergence_and_the_constant_rate_of_its_section(section: dict[str, Any], active: str) -> None:
    student = Student.model_validate(
        {"name": "s", "init": {"prune": {"source": "x", "layers": [0]}}, "on_policy": section, "packing": True, "epochs": 9}
    )
    assert student.on_policy is not None
    found = student_of_round(student, student.on_policy, 7)
    assert found.objectives.active == (active,) and not found.packing
    assert (found.max_steps, found.schedule, found.learning_rate, found.warmup_steps) == (7, "constant", 1e-5, 0)
    if active == "jsd":
        assert found.objectives.jsd is not None and found.objectives.jsd.beta == 0.9


@dataclass
class Worker:
    resume: Path | None = None


@dataclass
class Ordered:
    student: Student
    round: RoundSpec


@pytest.mark.parametrize(
    ("kl", "sampled_by", "models", "old", "reference"),
    [
        (0.1, "/start", ["/start"], "/start", "/start"),
        (0.1, "/round-1", ["/start", "/round-1"], "/round-1", "/start"),
        (0.1, "", ["/start"], "now", "/start"),
        (0.0, "/start", ["/start"], "/start", "/start"),
        (0.0, "", [], "now", "now"),
    ],
)
def test_log_probabilities_of_each_older_model_are_computed_once(
    kl: float, sampled_by: str, models: list[str], old: str, reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = Student.model_validate({"name": "s", "init": {"prune": {"source": "m", "layers": [0]}}})
    student = student.model_copy(update={"on_policy": GRPO.model_copy(update={"kl": kl})})
    asked: list[str] = []
    monkeypatch.setattr(rollouts, "load", lambda folder: packed())
    monkeypatch.setattr(policy_round, "_log_probs_of", lambda model, *rest: asked.append(model) or model)
    monkeypatch.setattr(policy_round, "_start", lambda *given: SimpleNamespace(engine=None, splits={}))
    monkeypatch.setattr(policy_round, "log_probs", lambda *given: "now")
    monkeypatch.setattr(zero, "load", lambda *given: None)
    spec = Ordered(student, RoundSpec(2, "memory://rollouts", "/start", "/round-1/checkpoint", 1, sampled_by=sampled_by))
    policy = policy_round.begin(cast(Any, spec), cast(Any, Worker()), tmp_path).splits["train"].policy
    assert policy is not None and (asked, policy.old, policy.reference) == (models, old, reference)
