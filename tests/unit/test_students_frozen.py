"""Weights that are not trained are cast once: outputs and gradients stay what they were, bit by bit."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engine.students.training.frozen import cast_once


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        tie_word_embeddings=True, attention_bias=True,
    )  # fmt: skip
    made = LlamaForCausalLM(shape)
    made.get_input_embeddings().requires_grad_(False)
    made.model.layers[0].requires_grad_(False)
    return made


def learnt(made: LlamaForCausalLM) -> list[torch.Tensor]:
    """Logits and gradients of two steps under autocast, and logits without it."""
    ids, found = torch.arange(24).reshape(2, 12), []
    for _ in range(2):
        made.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = made(input_ids=ids, use_cache=False).logits
        logits.float().logsumexp(-1).sum().backward()
        found += [logits.detach(), *(each.grad.clone() for each in made.parameters() if each.grad is not None)]
        with torch.no_grad():
            for each in made.parameters():
                if each.requires_grad:
                    each -= 0.1 * each.grad
    with torch.no_grad():
        return [*found, made(input_ids=ids, use_cache=False).logits]


def test_logits_and_gradients_are_the_same_bits() -> None:
    plain, cast = model(), model()
    cast_once(cast)
    for one, other in zip(learnt(plain), learnt(cast), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
    assert cast.state_dict().keys() == plain.state_dict().keys()


def test_frozen_weight_is_cast_at_the_first_pass_only_and_trained_ones_at_each(monkeypatch) -> None:
    made, linear, seen = model(), torch.nn.functional.linear, []
    cast_once(made)
    frozen, trained = made.model.layers[0].mlp.up_proj, made.model.layers[1].mlp.up_proj

    def record(inputs, weight, bias=None):
        seen.append(weight.data_ptr())
        return linear(inputs, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", record)
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(2):
            frozen(torch.zeros(1, 32)), trained(torch.zeros(1, 32))
    assert seen[0] == seen[2] != frozen.weight.data_ptr() and seen[1] == seen[3] == trained.weight.data_ptr()
