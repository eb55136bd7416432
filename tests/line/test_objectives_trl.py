"""Losses equal TRL's on the same numbers, to 1e-5. TRL is an oracle only: nothing else imports it."""

import warnings
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor
from transformers.loss.loss_utils import ForCausalLMLoss

from engine.contract.objectives import Divergence, Dpo, JensenShannon, Orpo, Simpo, Uld
from engine.contract.on_policy import OnPolicy
from engine.students.data.batch import Batch, PolicyTokens, TeacherTokens
from engine.students.objectives import OBJECTIVES, PAIR_OBJECTIVES, grpo
from engine.students.objectives.outputs import Outputs, PairOutputs

TOKENS, WORDS, PAIRS = 7, 13, 4


def normal(*shape: int, seed: int) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def of_tokens(name: str, student: Tensor, teacher: Tensor | None, section: Any) -> Tensor:
    """Our mean loss; the teacher is known whole."""
    place, known = torch.arange(len(student)), None
    if teacher is not None:
        top, ids = teacher.log_softmax(1).topk(teacher.shape[1])
        known = TeacherTokens(ids, top, torch.full((TOKENS,), -torch.inf), torch.ones(TOKENS, dtype=torch.bool))
    batch = Batch(place[None], place[None], place, place % WORDS, torch.ones(len(place)), known)
    return OBJECTIVES[name].loss(Outputs(student.log_softmax(1)), batch, section).mean()


def pairs() -> PairOutputs:
    sums = [-normal(PAIRS, seed=seed).abs() - 0.1 for seed in range(4)]
    return PairOutputs(sums[0], sums[1], torch.full((PAIRS,), 3.0), torch.full((PAIRS,), 5.0), sums[2], sums[3])


def trainer(place: str) -> Any:
    """A trainer of TRL, which warns when it is imported that some of them may be changed."""
    module, name = place.rsplit(".", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(import_module(f"trl.{module}"), name)


def test_sft_is_trls() -> None:
    """Its trainer takes the loss of transformers: the mean cross entropy of what is not masked."""
    student, labels = normal(TOKENS, WORDS, seed=0), torch.arange(TOKENS) % WORDS
    padded, shifted = torch.cat([student, torch.zeros(1, WORDS)])[None], torch.cat([labels[:1], labels])[None]
    theirs = ForCausalLMLoss(padded, shifted, vocab_size=WORDS)
    assert float(of_tokens("sft", student, None, None)) == pytest.approx(float(theirs), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "section", "beta"),
    [
        ("forward_kl", Divergence(), 0.0),
        ("reverse_kl", Divergence(), 1.0),
        ("jsd", JensenShannon(beta=0.3), 0.3),
        ("jsd", JensenShannon(beta=0.9), 0.9),
        ("forward_kl", Divergence(temperature=2.0), 0.0),
        ("jsd", JensenShannon(beta=0.5, temperature=0.5), 0.5),
    ],
)
def test_divergences_are_trls_generalised_jensen_shannon_divergence(name: str, section: Divergence, beta: float) -> None:
    student, teacher = normal(TOKENS, WORDS, seed=0), normal(TOKENS, WORDS, seed=1)
    published = trainer("experimental.gkd.gkd_trainer.GKDTrainer").generalized_jsd_loss
    theirs = published(student, teacher, beta=beta, temperature=section.temperature, reduction="sum") / TOKENS
    ours = of_tokens(name, student, teacher, section) / section.temperature**2  # by which TRL does not multiply
    assert float(ours) == pytest.approx(float(theirs), abs=1e-5)


@pytest.mark.parametrize("words", [WORDS, 9])
def test_uld_is_trls(words: int) -> None:
    """Also with a teacher of fewer words; all tokens are the answer's, and none is merged."""
    student, teacher = normal(TOKENS, WORDS, seed=0), normal(TOKENS, words, seed=1)
    settings = dict.fromkeys(("uld_student_temperature", "uld_teacher_temperature", "uld_distillation_weight"), 1.0)
    flags = dict.fromkeys(("uld_skip_student_eos", "uld_skip_teacher_eos", "use_extended_uld"), False)
    config = SimpleNamespace(**settings, **flags, uld_crossentropy_weight=0.0, uld_token_merge_strategy="observed")
    ids = torch.arange(TOKENS)[None]
    theirs = trainer("experimental.gold.gold_trainer.ULDLoss")(config)(student[None], teacher[None], ids, ids, ids, ids)
    assert float(of_tokens("uld", student, teacher, Uld())) == pytest.approx(float(theirs), abs=1e-5)


@pytest.mark.parametrize(("kind", "section"), [("sigmoid", Dpo(beta=0.3)), ("robust", Dpo(beta=0.3, label_smoothing=0.2))])
def test_dpo_is_trls(kind: str, section: Dpo) -> None:
    """TRL computes it from the log-probabilities of tokens: here one token has those of the whole answer."""
    ours = pairs()
    state = MagicMock()
    state.configure_mock(
        ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=[kind], loss_weights=[1.0],
        beta=section.beta, label_smoothing=section.label_smoothing, use_weighting=False,
        aux_loss_enabled=False, _total_train_tokens=0, _tp_size=1,
    )  # fmt: skip
    state.accelerator.gather_for_metrics.side_effect = lambda tensor: tensor
    state.accelerator.gather.side_effect = lambda tensor: tensor
    state.accelerator.device = torch.device("cpu")
    both = torch.cat([ours.chosen, ours.rejected])[:, None]
    nothing = torch.zeros_like(both)
    found = SimpleNamespace(log_probs=both, entropy=nothing, mean_logits=nothing, is_top1=nothing > 0)
    inputs = {
        "input_ids": torch.ones(2 * PAIRS, 2, dtype=torch.int64),
        "attention_mask": torch.ones(2 * PAIRS, 2, dtype=torch.int64),
        "completion_mask": torch.tensor([[0, 1]] * (2 * PAIRS)),
        "ref_chosen_logps": ours.reference_chosen,
        "ref_rejected_logps": ours.reference_rejected,
    }
    theirs = trainer("trainer.dpo_trainer.DPOTrainer")._compute_loss(state, MagicMock(return_value=found), inputs, False)
    assert float(PAIR_OBJECTIVES["dpo"].loss(ours, section).mean()) == pytest.approx(float(theirs), abs=1e-5)


def test_orpo_is_trls() -> None:
    ours, section = pairs(), Orpo(beta=0.25)
    state = SimpleNamespace(beta=section.beta, accelerator=SimpleNamespace(device="cpu"))
    means = ours.chosen / ours.chosen_tokens, ours.rejected / ours.rejected_tokens
    ratio = trainer("experimental.orpo.orpo_trainer.ORPOTrainer").odds_ratio_loss(state, *means)[0]
    theirs = -means[0].mean() - ratio.mean()  # as its get_batch_loss_metrics adds them
    assert float(PAIR_OBJECTIVES["orpo"].loss(ours, section).mean()) == pytest.approx(float(theirs), abs=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_simpo_is_trls(noise: float) -> None:
    ours, section = pairs(), Simpo(beta=2.5, gamma=0.8, label_smoothing=noise)
    state = SimpleNamespace(
        beta=section.beta, simpo_gamma=section.gamma, label_smoothing=noise, loss_type="simpo", alpha=0.0,
        accelerator=SimpleNamespace(device="cpu"),
    )  # fmt: skip
    means = ours.chosen / ours.chosen_tokens, ours.rejected / ours.rejected_tokens
    theirs = trainer("experimental.cpo.cpo_trainer.CPOTrainer").cpo_loss(state, *means)[0].mean()
    assert float(PAIR_OBJECTIVES["simpo"].loss(ours, section).mean()) == pytest.approx(float(theirs), abs=1e-5)


@pytest.mark.parametrize(("average", "kind"), [("answer", "grpo"), ("token", "bnpo")])
@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_grpo_is_trls(average: str, kind: str, kl: float) -> None:
    """Two groups of two answers of different lengths; their advantages by TRL's own lines."""
    section = OnPolicy.model_validate({"objective": "grpo", "rewards": {"c": 1}, "clip": 0.2, "kl": kl, "average": average})
    lengths = torch.tensor([5, 2, 3, 1])
    mask = (torch.arange(5) < lengths[:, None]).long()
    new, old, reference = (-normal(4, 5, seed=seed).abs() / 4 for seed in range(3))
    rewards = torch.tensor([1.0, 0.25, 0.0, 0.75])
    groups = rewards.view(2, 2)
    theirs = ((groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)).flatten()
    assert grpo.advantages(groups.numpy(), scale=True).flatten() == pytest.approx(theirs.numpy(), abs=1e-6)
    state = MagicMock()
    state._get_per_token_logps_and_entropies.return_value = (new, torch.zeros_like(new), None)
    state.configure_mock(
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token",
        beta=kl, loss_type=kind, epsilon_low=0.2, epsilon_high=0.2, use_vllm=False, current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
    )  # fmt: skip
    state.args.configure_mock(delta=None, use_bias_correction_kl=False)
    state.accelerator.reduce.side_effect = lambda tensor, reduction: tensor
    state.accelerator.gather.side_effect = lambda tensor: tensor
    inputs = {
        "prompt_ids": torch.ones(4, 1).long(), "prompt_mask": torch.ones(4, 1).long(), "completion_ids": torch.ones(4, 5).long(),
        "completion_mask": mask, "advantages": theirs, "old_per_token_logps": old, "ref_per_token_logps": reference,
    }  # fmt: skip
    published = trainer("trainer.grpo_trainer.GRPOTrainer")._compute_loss(state, MagicMock(), inputs)
    use, owners = mask.bool(), torch.arange(4)[:, None].expand(4, 5)[mask.bool()]
    tokens = PolicyTokens(theirs[owners], old[use], reference[use])
    weights = 1 / lengths[owners] if average == "answer" else torch.ones(len(owners))
    ours = (grpo.loss(new[use], tokens, section) * weights).sum() / weights.sum()
    assert float(ours) == pytest.approx(float(published), abs=1e-5)
