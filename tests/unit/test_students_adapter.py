"""Adapters: what is trained, merged and kept by itself; targets and ranks that cannot be."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tokenizer_world as world
import torch
from peft import PeftModel
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from engine.contract.init import Adapter
from engine.contract.students import Student
from engine.errors import ModelError
from engine.students.export import adapter, huggingface
from engine.students.init.adapter import targets
from engine.students.init.initial import initial
from engine.students.init.prune import parameters
from engine.students.init.source import check_source
from tests.families import tiny

PROMPT = "ordered two mails then"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = world.write(world.byte_level(), tmp_path_factory.mktemp("source"))
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(folder)), hidden_size=32, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
    return folder


def student(section: dict[str, Any], kind: dict[str, Any] | None = None, **changes: Any) -> Student:
    init = {**(kind or {"model": {"source": "x"}}), "adapter": section}
    return Student.model_validate({"name": "s", "init": init, "dtype": "float32", **changes})


def made(source: Path, one: Student) -> Any:
    spec: Any = SimpleNamespace(student=one, source_folder=source)
    return initial(spec)


def learned(pruned: Any) -> None:
    """Give the adapter numbers, as a training would."""
    torch.manual_seed(1)
    for parameter in pruned.model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn_like(parameter)


def greedy(model: Any, tokenizer: Any) -> list[int]:
    ids = torch.tensor([tokenizer(PROMPT)["input_ids"]])
    return model.eval().generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)[0].tolist()


@pytest.mark.parametrize("kind", [None, {"prune": {"source": "x", "layers": [0, 2]}}], ids=["model", "prune"])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_merged_and_unmerged_answers_are_equal(method: str, kind: Any, source: Path, tmp_path: Path) -> None:
    pruned = made(source, student({"type": method, "rank": 4, "merge": False}, kind))
    before = {name: tensor.clone() for name, tensor in pruned.model.state_dict().items()}
    untrained = greedy(pruned.model, pruned.tokenizer)
    learned(pruned)
    weights = {f"model.{name}": tensor for name, tensor in pruned.model.state_dict().items()}
    huggingface.write(pruned, weights, tmp_path / "model", dtype="float32")
    huggingface.write_base(pruned, tmp_path / "base", dtype="float32")

    trained = greedy(pruned.model, pruned.tokenizer)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert greedy(base, pruned.tokenizer) == untrained != trained
    unmerged = PeftModel.from_pretrained(base, str(tmp_path / "model" / adapter.FOLDER))
    assert greedy(merged, pruned.tokenizer) == greedy(unmerged, pruned.tokenizer) == trained
    for name, tensor in pruned.model.state_dict().items():
        assert torch.equal(tensor, before[name]) or ".lora_" in name


def test_only_the_adapter_is_trained_and_the_first_layers_of_it_can_be_frozen(source: Path) -> None:
    pruned = made(source, student({"rank": 2, "targets": ["q_proj", "down_proj"]}, freeze_layers=1))
    names = [name for name, parameter in pruned.model.named_parameters() if parameter.requires_grad]
    assert len(names) == 2 * 2 * 2
    assert all(".lora_" in name and not name.startswith("model.layers.0.") for name in names)


def test_the_optimizer_of_an_adapter_is_small(source: Path) -> None:
    sizes = []
    whole = Student.model_validate({"name": "s", "init": {"model": {"source": "x"}}, "freeze_embeddings": False})
    for one in (student({"rank": 1, "targets": ["q_proj"]}), whole):
        pruned = made(source, one)
        trained = [parameter for parameter in pruned.model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained)
        pruned.model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
        optimizer.step()
        states = (tensor for state in optimizer.state.values() for tensor in state.values())
        sizes.append(sum(tensor.nbytes for tensor in states))
    assert sizes[0] <= sizes[1] / 20


def test_an_adapter_alone_makes_the_same_model_again(source: Path, tmp_path: Path) -> None:
    pruned = made(source, student({"type": "dora", "rank": 4}))
    learned(pruned)
    weights = {f"model.{name}": tensor for name, tensor in pruned.model.state_dict().items()}
    huggingface.write(pruned, weights, tmp_path / "first", dtype="bfloat16")
    again = made(source, student({"type": "dora", "rank": 4}))
    (tmp_path / "again").mkdir()
    (tmp_path / "first" / adapter.FOLDER).rename(tmp_path / "again" / adapter.FOLDER)
    huggingface.write_merged(again, tmp_path / "again", dtype="bfloat16")
    name = "model.safetensors"
    assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_what_is_saved_before_the_first_step_is_the_source(source: Path, tmp_path: Path) -> None:
    pruned = made(source, student({"type": "dora"}))
    huggingface.verify(pruned, tmp_path)
    assert parameters(pruned.model) > pruned.source_parameters


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"targets": ["c_attn"]}, r"targets: found c_attn, .*This model has down_proj, gate_proj, k_proj, lm_head, o_proj"),
        ({"targets": ["lm_head"]}, "targets: lm_head shares its weights with another layer"),
        ({"rank": 33}, r"rank: found 33, expected at most 16, as model.layers.0.self_attn.k_proj is 16 x 32"),
        ({"rank": 33, "targets": ["q_proj"]}, "rank: found 33, expected at most 32"),
    ],
)
def test_targets_and_ranks_that_cannot_be_are_known_before_training(section: dict, said: str, source: Path) -> None:
    with pytest.raises(ModelError, match=said):
        check_source(source, student(section), "Answer.")


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "gemma3_text", "gpt_neox"])
def test_all_linear_layers_but_the_output_of_any_family(family: str) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(tiny(family))
    found = targets(model, Adapter(rank=1))
    assert len(found) >= 3 and not {"lm_head", "embed_out"} & set(found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"zero": 3}, "zero: found 3, expected 0 to 2"),
        ({"freeze_embeddings": False}, "freeze_embeddings: found false, expected true"),
    ],
)
def test_an_adapter_excludes_what_would_lose_weights(changes: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        student({}, **changes)
