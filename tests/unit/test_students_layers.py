"""Pruning of tiny random models of several families: layers, configuration, and what is loaded from the saved folder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from engine.contract.students import Student
from engine.errors import ModelError
from engine.students.export import huggingface
from engine.students.init import layers, prune, source
from tests.families import LAYERS, tiny

IDS = torch.arange(1, 17)[None]
FAMILIES = {
    "llama": {},
    "gpt2": {},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2},
    "qwen3_next": {},
    "qwen3_5_text": {},
    "smollm3": {"no_rope_layer_interval": 2},
    "gemma3_text": {"sliding_window": 4, "sliding_window_pattern": 2},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "llama4_text": {"no_rope_layer_interval": 2},
    "qwen3_moe": {"mlp_only_layers": [0, 3]},
}


def built(family: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = tiny(family)
    return AutoModelForCausalLM.from_config(type(config)(**{**config.to_dict(), **LISTS, **changes})).float()


LISTS = {"layer_types": None, "no_rope_layers": None, "moe_layers": None, "mlp_layer_types": None}
"""Derived again from the changed keys."""


@pytest.mark.parametrize("kept", [(0, 1, 3), (3, 1)], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_saved_student_has_the_logits_of_the_model_in_memory(family: str, kept: tuple[int, ...], tmp_path: Path) -> None:
    model = built(family, **FAMILIES[family])
    layers.keep(model, kept)
    model.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).num_hidden_layers == len(kept)
    huggingface.compare(tmp_path, huggingface.logits(model, IDS), IDS)


@pytest.mark.parametrize("family", sorted(source.UNIFORM))
def test_families_that_check_does_not_build_can_be_pruned(family: str) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(tiny(family))
    layers.keep(model, (0, 3))


def test_layers_that_follow_from_their_index_are_refused() -> None:
    with pytest.raises(ModelError, match=r"layers \[0, 1, 3\]: model.layers.2.self_attn.lambda_init is 0.55.*init.prune.layers"):
        layers.keep(built("diffllama"), (0, 1, 3))


def test_a_saved_folder_with_other_logits_is_refused(tmp_path: Path) -> None:
    model = built("smollm3")
    model.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    config.no_rope_layers = [0] * LAYERS
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"SmolLM3ForCausalLM is not the model .*: its logits differ by"):
        huggingface.compare(tmp_path, huggingface.logits(model, IDS), IDS)


TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def folder_of(family: str, folder: Path, template: str = TEMPLATE) -> Path:
    tiny(family).save_pretrained(folder)
    vocabulary = Tokenizer(models.WordLevel({"a": 0, "b": 1, "</s>": 2}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=vocabulary, chat_template=template or None, eos_token="</s>")
    tokenizer.save_pretrained(folder)
    return folder


def student(kept: tuple[int, ...]) -> Student:
    return Student.model_validate({"name": "s", "init": {"prune": {"source": "x", "layers": kept}}})


def test_a_source_is_checked_without_its_weights(tmp_path: Path) -> None:
    source.check_source(folder_of("smollm3", tmp_path / "right"), student((0, 1, 3)), "Answer.")
    source.check_source(folder_of("gpt2", tmp_path / "older"), student((0, 1, 3)), "Answer.")
    with pytest.raises(ModelError, match=r"other: DiffLlamaForCausalLM cannot be pruned to the layers"):
        source.check_source(folder_of("diffllama", tmp_path / "other"), student((0, 1, 3)), "Answer.")
    with pytest.raises(ModelError, match=r"\[4\] are not there; the model has 4 layers"):
        source.check_source(tmp_path / "right", student((0, 4)), "Answer.")


@pytest.mark.parametrize(
    ("family", "changes", "kept", "reason"),
    [
        ("gpt_oss", {}, (0, 1, 3), "sliding window to every layer of even index"),
        ("gpt_oss", {}, (0, 3), ""),
        ("llama4_text", {"interleave_moe_layer_step": 2, "moe_layers": [1, 3]}, (0, 1, 3), "mixtures of experts"),
        ("llama4_text", {"interleave_moe_layer_step": 2, "moe_layers": [1, 3]}, (2, 3), ""),
        ("qwen2", {"layer_types": ["full_attention"] * 2 + ["sliding_attention"] * 2}, (1, 2), "layers of one kind"),
        ("qwen2", {"layer_types": ["full_attention"] * 2 + ["sliding_attention"] * 2}, (0, 1), ""),
    ],
)
def test_layers_that_vllm_serves_by_their_index_are_refused(family: str, changes: Any, kept: tuple[int, ...], reason: str) -> None:
    config = AutoConfig.for_model(family, num_hidden_layers=4, **changes)
    layers.cut(config.get_text_config(decoder=True), kept)
    found = layers.served_otherwise(config, kept)
    assert reason in found and bool(reason) == bool(found)


def test_a_base_model_is_no_source_of_a_student(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"base.*chat template(.|\n)*use its instruct version"):
        source.check_source(folder_of("llama", tmp_path / "base", template=""), student((0, 1)), "Answer.")


@pytest.mark.parametrize("family", ["llama", "gpt2", "smollm3"])
def test_a_student_before_its_first_step_is_saved_as_it_is(family: str, tmp_path: Path) -> None:
    folder = folder_of(family, tmp_path / "source")
    built(family).save_pretrained(folder)
    pruned = prune.prune(folder, (0, 1, 3))
    huggingface.verify(pruned, tmp_path)
    pruned.model.config.num_hidden_layers = 2
    with pytest.raises(AssertionError, match="weights do not fit"):
        huggingface.verify(pruned, tmp_path)
