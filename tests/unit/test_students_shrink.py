"""Importance, and cuts of tiny random models by it: dead parts are planted, and exactly these go."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoConfig, AutoModelForCausalLM

from engine.contract.shrink import Shrink
from engine.errors import ModelError
from engine.students.data.pack import Packed, collate
from engine.students.export import huggingface
from engine.students.init import importance, layers, shrink, width
from engine.students.init.prune import parameters
from engine.students.init.width import Shape, anatomy, cut_model
from tests.families import tiny

FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "granite"]
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 8}
WHOLE = Shape(4, 4, 128, 64)
IDS = torch.arange(3, 35)[None]


def built(family: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = tiny(family)
    config = type(config)(**{**config.to_dict(), "layer_types": None, **SIZES, **changes})
    model = AutoModelForCausalLM.from_config(config).float().eval()
    for weight in model.parameters():  # the default is so small that layers hardly matter
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def layers_of(model: Any) -> Any:
    return layers.find(model)


def batches() -> list[Any]:
    """Six examples of several lengths in two batches."""
    rng = np.random.default_rng(0)
    lengths = [12, 9, 14, 8, 11, 10]
    ids = rng.integers(3, 64, sum(lengths)).astype(np.int32)
    starts = np.cumsum([0, *lengths])
    packed = Packed(ids, starts, np.full(6, 4, np.int32), np.ones(6, np.float32), np.zeros(6, np.int32), 0)
    return [collate(packed, rows, pad=0) for rows in (np.arange(3), np.arange(3, 6))]


def options(**changes: Any) -> Shrink:
    return Shrink.model_validate({"source": "x", "to": 0.5, **changes})


DEAD = {0: (1, 3), 1: (0, 2), 2: (2, 3), 3: (0, 1)}  # layer -> two dead key-value heads


def kill(model: Any) -> dict[int, torch.Tensor]:
    """Plant dead heads and dead feed-forward channels in `model`; return the channels of each layer that live."""
    alive = {}
    with torch.no_grad():
        for index, layer in enumerate(layers_of(model)):
            for head in DEAD[index]:
                layer.self_attn.v_proj.weight[head * 8 : head * 8 + 8] = 0
                if layer.self_attn.v_proj.bias is not None:
                    layer.self_attn.v_proj.bias[head * 8 : head * 8 + 8] = 0
            dead = torch.arange(index % 2, 128, 2)
            layer.mlp.up_proj.weight[dead] = 0
            alive[index] = torch.tensor([channel for channel in range(128) if channel not in dead.tolist()])
    return alive


@pytest.mark.parametrize("family", FAMILIES)
def test_dead_heads_and_channels_go_and_no_logit_changes(family: str) -> None:
    model = built(family)
    alive = kill(model)
    measured = importance.measure(model, batches())
    kept = shrink.chosen(measured, Shape(4, 2, 64, 64))
    assert all(set(kept.kv_heads[layer].tolist()).isdisjoint(dead) for layer, dead in DEAD.items())
    assert all(torch.equal(kept.intermediate[layer], channels) for layer, channels in alive.items())
    smaller = cut_model(model, kept)
    torch.testing.assert_close(huggingface.logits(smaller, IDS), huggingface.logits(model, IDS), rtol=0, atol=2e-5)
    assert parameters(smaller) == anatomy(model).parameters(Shape(4, 2, 64, 64)) == parameters(model) - dropped(model)


def dropped(model: Any) -> int:
    """Parameters of two key-value heads of 8 with two query heads each, and 64 channels, in four layers."""
    biases = (2 * 8 * 4 if layers_of(model)[0].self_attn.q_proj.bias is not None else 0) * 4
    return 4 * (64 * 16 * 2 + 64 * 32 * 2 + 3 * 64 * 64) + biases


def greedy(model: Any, batch: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=batch.ids, attention_mask=batch.mask).logits.flatten(0, 1)[batch.positions].argmax(-1)


@pytest.mark.parametrize("by", ["influence", "ablation"])
def test_a_dead_layer_is_the_least_important_one(by: Any) -> None:
    model = built("llama")
    with torch.no_grad():
        layers_of(model)[2].self_attn.o_proj.weight.zero_()
        layers_of(model)[2].mlp.down_proj.weight.zero_()
    taught = [replace(batch, labels=greedy(model, batch)) for batch in batches()]  # each layer helps
    measured = importance.measure(model, taught, by=by)
    assert int(measured.layers.argmin()) == 2 and float(measured.layers[2]) == pytest.approx(0, abs=1e-9)
    kept = shrink.chosen(measured, WHOLE._replace(layers=3))
    assert kept.layers == [0, 1, 3]
    torch.testing.assert_close(huggingface.logits(cut_model(model, kept), IDS), huggingface.logits(model, IDS))


@pytest.mark.parametrize(
    ("family", "biases"),
    [("llama", {}), ("llama", {"attention_bias": True, "mlp_bias": True}), ("qwen3", {"attention_bias": True})],
    ids=["llama", "llama with biases", "qwen3"],
)
def test_dead_hidden_channels_go_and_no_logit_changes(family: str, biases: dict[str, bool]) -> None:
    model = built(family, hidden_size=128, tie_word_embeddings=False, **biases)
    dead = torch.arange(0, 128, 2)
    with torch.no_grad():
        model.get_input_embeddings().weight[:, dead] = 0
        for layer in layers_of(model):
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                projection.weight[dead] = 0
                if projection.bias is not None:
                    torch.nn.init.normal_(projection.bias)[dead] = 0
    kept = shrink.chosen(importance.measure(model, batches()), WHOLE)
    assert torch.equal(kept.hidden, torch.arange(1, 128, 2))
    torch.testing.assert_close(
        huggingface.logits(cut_model(model, kept), IDS), huggingface.logits(model, IDS), rtol=1e-3, atol=1e-3
    )


def test_padding_does_not_count() -> None:
    model, wide = built("llama"), batches()
    narrow = [collate_one(batch, row) for batch in wide for row in range(3)]
    one, other = importance.measure(model, wide), importance.measure(model, narrow)
    assert one.loss == pytest.approx(other.loss, rel=1e-5)
    for name in ("layers", "kv_heads", "intermediate", "hidden"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-4, atol=1e-6)


def collate_one(batch: Any, row: int) -> Any:
    length, width_ = int(batch.mask[row].sum()), batch.ids.shape[1]
    mine = (batch.positions >= row * width_) & (batch.positions < (row + 1) * width_)
    return type(batch)(
        ids=batch.ids[row : row + 1, :length], mask=batch.mask[row : row + 1, :length],
        positions=batch.positions[mine] - row * width_, labels=batch.labels[mine], weights=batch.weights[mine],
    )  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_model_is_loaded_from_its_folder_as_it_is(family: str, tmp_path: Path) -> None:
    model = built(family)
    cut = shrink.cut(model, batches(), 60_000, options(sample=6))
    assert 0.9 * 60_000 < parameters(cut.model) == cut.record.parameters <= 60_000
    cut.model.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.num_hidden_layers, config.num_key_value_heads, config.intermediate_size) == (
        cut.record.layers, cut.record.kv_heads, cut.record.intermediate,
    )  # fmt: skip
    assert getattr(config, "head_dim", None) in (8, None) and config.num_attention_heads == cut.record.heads
    huggingface.compare(tmp_path, huggingface.logits(cut.model, IDS), IDS)


def test_the_best_shape_has_the_lowest_loss_of_those_tried_and_the_same_each_time() -> None:
    model = built("llama")
    first, again = (shrink.cut(model, batches(), 85_000, options()) for _ in range(2))
    assert first.record == again.record and first.record.tried > 1
    measured = importance.measure(model, batches())
    shapes = shrink.spread(shrink.fitting(anatomy(model), 85_000, options()), 16)
    losses = [importance.mean_loss(cut_model(model, shrink.chosen(measured, shape)), batches()) for shape in shapes]
    assert first.record.loss == pytest.approx(min(losses)) and len(set(losses)) > 1


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("to", [12_000_000, 20_000_000, 60_000_000])
def test_shapes_of_a_real_size_are_within_two_percent_below_the_target(to: int, hidden: bool) -> None:
    config = AutoConfig.for_model(
        "llama", vocab_size=2400, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        parts = anatomy(AutoModelForCausalLM.from_config(config))
    shapes = shrink.fitting(parts, to, options(hidden=hidden))
    assert shapes and all(0.98 * to <= parts.parameters(shape) <= to for shape in shapes)
    assert all(shape.intermediate % 32 == 0 and shape.hidden % 64 == 0 for shape in shapes)
    assert len(shrink.spread(shapes, 16)) == min(16, len(shapes))
    assert len({shape.hidden for shape in shapes}) > 1 or not hidden


def test_depth_and_width_can_be_left_alone() -> None:
    parts = anatomy(built("llama"))
    half = parts.parameters(WHOLE) // 2
    assert {shape[1:] for shape in shrink.fitting(parts, half, options(width=False))} == {(4, 128, 64)}
    assert {shape.layers for shape in shrink.fitting(parts, half, options(depth=False))} == {4}


def test_each_cut_of_several_takes_the_same_share() -> None:
    found = shrink.targets(1_000_000, 125_000, 3)
    assert found == [500_000, 250_000, 125_000]


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("qwen3_moe", "no mlp.up_proj but mlp.*expert.*mixtures of experts"),
        ("phi3", "no self_attn.q_proj but self_attn.*fused or other projections"),
        ("gpt2", "no self_attn.q_proj but attn.c_attn.weight"),
        ("olmo2", "self_attn.k_norm.weight of shape .16. in its layers is none"),
    ],
)
def test_other_families_are_refused_by_name_and_reason(family: str, reason: str) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(tiny(family))
    with pytest.raises(ModelError, match=f"(?i){family.replace('_', '')}.*cannot be cut in width.*{reason}"):
        anatomy(model)


def test_layers_that_follow_from_their_index_are_refused() -> None:
    model = built("llama")
    for index, layer in enumerate(layers_of(model)):
        layer.self_attn.depth_scale = 0.5**index
    with pytest.raises(ModelError, match=r"layer 0 would be another one at place 0: self_attn.depth_scale is 1.0"):
        shrink.cut(model, batches(), 85_000, options())


def test_a_target_that_cannot_be_met_is_refused_with_the_least_one() -> None:
    parts = anatomy(built("llama"))
    least = parts.parameters(Shape(1, 1, 32, 64))
    with pytest.raises(ModelError, match=rf"to: found 1000, expected at least {least}, the least of this source with depth: true"):
        shrink.wanted(parts, options(to=1000))
    assert shrink.wanted(parts, options(to=least)) == least
    with pytest.raises(ModelError, match=r"to: found 1000000000, expected less than the \d+ parameters of the source"):
        shrink.wanted(parts, options(to="1B"))
    with pytest.raises(ModelError, match=r"found 0.01, which is \d+ parameters, expected at least"):
        shrink.wanted(parts, options(to=0.01))


def test_hidden_channels_of_families_that_use_the_size_elsewhere_are_refused() -> None:
    with pytest.raises(ModelError, match=r"gemma derives more from its hidden size.*: llama, mistral, qwen3"):
        shrink.check(anatomy(built("gemma")), options(hidden=True))


def test_heads_stay_where_the_family_divides_the_hidden_size_by_them() -> None:
    assert {shape.kv_heads for shape in shrink.fitting(anatomy(built("qwen2")), 85_000, options())} == {4}


@pytest.mark.parametrize(
    ("written", "count"), [("12M", 12_000_000), ("1.5B", 1_500_000_000), ("800k", 800_000), (12, 12), ("5000", 5000), (0.2, 0.2)]
)
def test_sizes_are_written_as_people_write_them(written: Any, count: float) -> None:
    assert options(to=written).to == count
    assert options(to=options(to=written).to).to == count


@pytest.mark.parametrize("written", ["12X", "", -3, 0, 1, 1.5, True, "1.5"])
def test_other_sizes_are_refused(written: Any) -> None:
    with pytest.raises(ValidationError, match="expected a number of parameters"):
        options(to=written)
    with pytest.raises(ValidationError, match="expected true for at least one"):
        options(depth=False, width=False)


def test_anatomy_counts_the_parameters_of_its_model() -> None:
    for family in FAMILIES:
        model = built(family)
        assert anatomy(model).parameters(width.anatomy(model).shape) == parameters(model), family
