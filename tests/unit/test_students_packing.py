"""Several examples in one row: nothing is lost, none attends to another, and losses and gradients are those of single rows."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from engine.contract.objectives import Objectives
from engine.contract.students import Student
from engine.errors import ModelError
from engine.students.data.pack import Packed, collate
from engine.students.data.rows import shared
from engine.students.training import packing
from engine.students.training.loss_module import LossModule

LENGTHS = [5, 17, 9, 12, 3, 30, 7]
TINY = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "attn_implementation": "eager", "pad_token_id": 0,
}  # fmt: skip
WINDOWS = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {}, "Mistral": {"sliding_window": 4}, "Qwen2": {}, "Qwen3": {}, "Gemma": {}, "Gemma2": WINDOWS, "Gemma3Text": WINDOWS,
    "Phi3": {}, "Olmo2": {}, "Granite": {}, "SmolLM3": {}, "Cohere": {},
    "GPT2": {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0},
}  # fmt: skip
APART = {"Bloom": {"n_head": 4}, "Mamba": {"state_size": 4}, "OPT": {"ffn_dim": 48, "word_embed_proj_dim": 32}}


def examples() -> Packed:
    chance = np.random.default_rng(0)
    starts = np.cumsum([0, *LENGTHS])
    count, ids = len(LENGTHS), chance.integers(1, 64, starts[-1]).astype(np.int32)
    targets = np.asarray([length // 2 for length in LENGTHS], np.int32)
    return Packed(ids, starts, targets, np.linspace(0.5, 2, count, dtype=np.float32), np.zeros(count, np.int32), 0)


def model(family: str, options: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(getattr(transformers, f"{family}Config")(**TINY, **options)).float()


def learnt(net: LossModule, capacity: int | None) -> tuple[float, dict[str, torch.Tensor]]:
    net.zero_grad()
    loss = net(collate(examples(), np.asarray([6, 0, 1, -1, 2, 3, 4, 5]), pad=0, capacity=capacity))
    loss.backward()
    return loss.item(), {name: each.grad.clone() for name, each in net.named_parameters() if each.grad is not None}


@pytest.mark.parametrize(
    ("family", "attention"), [*((family, "eager") for family in FAMILIES), ("Llama", "sdpa"), ("Gemma2", "sdpa")]
)
def test_losses_and_gradients_are_those_of_single_rows(family: str, attention: str) -> None:
    net = LossModule(model(family, FAMILIES[family]), Objectives())
    net.model.set_attn_implementation(attention)
    packing.check(net.model, examples(), "s")
    alone, expected = learnt(net, None)
    together, found = learnt(net, 32)
    assert together == pytest.approx(alone, rel=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-5, atol=1e-5 * float(gradient.abs().max())), name


@pytest.mark.parametrize("family", APART)
def test_model_that_would_mix_examples_is_refused(family: str) -> None:
    with pytest.raises(ModelError, match=r"students\.s\.packing: .* (takes no positions|does not keep examples in one row apart)"):
        packing.check(model(family, APART[family]), examples(), "s")


def test_rows_are_full_and_hold_every_token_once() -> None:
    packed, rows = examples(), np.arange(len(LENGTHS))
    batch = collate(packed, rows, pad=0, capacity=32)
    assert batch.ids.shape == (3, 32) and int(batch.mask.sum()) == sum(LENGTHS)
    assert sorted(batch.ids[batch.mask == 1].tolist()) == sorted(packed.ids.tolist())
    single = collate(packed, rows, pad=0)
    assert torch.equal(batch.labels, single.labels) and torch.equal(batch.weights, single.weights)
    before = single.ids.flatten()[single.positions]
    assert torch.equal(batch.ids.flatten()[batch.positions], before)


def test_positions_begin_anew_with_each_example_and_with_the_padding() -> None:
    lengths = np.asarray([2, 3, 1])
    layout = shared(lengths, 4)
    assert layout.restarting(lengths).tolist() == [[0, 1, 2, 0], [0, 1, 0, 1]]
    assert shared(np.asarray([0, 0]), 4)[2:] == (1, 1)


def test_packing_is_part_of_a_recipe_only_where_it_is_ordered() -> None:
    plain = {"name": "s", "init": {"prune": {"source": "x", "layers": [0]}}}
    assert "packing" not in Student.model_validate(plain).model_dump()
    assert Student.model_validate({**plain, "packing": True}).model_dump()["packing"] is True
