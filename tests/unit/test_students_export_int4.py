"""Exports in 4 bits: which layers can be, what the layouts of GPTQ and AWQ hold, and what is refused before anything is paid.

AutoRound itself is called by `make exports`; here the test packs the weights, rounded to nearest.
"""

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import made_run
import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from safetensors.torch import load_file, save_file
from test_students_export import order, write_llama
from transformers import MixtralConfig

from engine.contract.contract import Contract
from engine.contract.exports import Gguf, Int4
from engine.contract.profile import Profile
from engine.contract.shrink import Shrink
from engine.contract.students import Student
from engine.errors import ModelError
from engine.evaluation.size import model_size
from engine.records.export import ExportMetrics
from engine.students.export import gguf, int4, int4_layout, packages, probe
from engine.students.export.make import make
from jobs.commands.check import verify_exporters

PACKAGES = Path(__file__).parent / "fake_packages"  # has metadata of the tool, and no tool
METHODS = ["gptq", "awq"]
AWQ_COLUMNS = (0, 2, 4, 6, 1, 3, 5, 7)  # of eight columns, in the order in which AutoAWQ packs them from the lowest bits on


def packed(numbers: np.ndarray, columns: tuple[int, ...] = tuple(range(8))) -> torch.Tensor:
    """Pack eight neighbours of the last dimension of `numbers`, 0 to 15, into an int32."""
    grouped = numbers.reshape(*numbers.shape[:-1], -1, 8).astype(np.uint32)
    words = sum(grouped[..., column] << np.uint32(4 * place) for place, column in enumerate(columns))
    return torch.from_numpy(np.asarray(words, np.uint32).view(np.int32).copy())


def layer(method: str, weight: np.ndarray, group: int) -> dict[str, torch.Tensor]:
    """Return `weight` [out, in] in the layout of `method`, rounded to nearest."""
    grouped = weight.T.reshape(-1, group, weight.shape[0])  # [groups, group, out]
    if method == "gptq":
        scales, zeros = np.abs(grouped).max(1) / 7, np.full((len(grouped), weight.shape[0]), 8)
    else:
        low = np.minimum(grouped.min(1), 0)
        scales = (np.maximum(grouped.max(1), 0) - low) / 15
        zeros = np.rint(-low / scales).astype(int)
    scales = scales.astype(np.float16).astype(np.float32)
    numbers = np.clip(np.rint(grouped / scales[:, None]) + zeros[:, None], 0, 15).astype(int).reshape(weight.T.shape)
    half = torch.from_numpy(scales.copy()).half().contiguous()
    if method == "gptq":
        own = torch.arange(weight.shape[1], dtype=torch.int32) // group
        whole = packed(np.ascontiguousarray(numbers.T)).T.contiguous()
        return {"qweight": whole, "qzeros": packed(zeros - 1), "scales": half, "g_idx": own}
    return {"qweight": packed(numbers, AWQ_COLUMNS), "qzeros": packed(zeros, AWQ_COLUMNS), "scales": half}


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama with tied embeddings, whose layers can all be in 4 bits."""
    return write_llama(tmp_path_factory.mktemp("student"), kv_heads=4)


@pytest.fixture
def rounded(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a round-to-nearest in the place of AutoRound; it leaves layers that end with `but` as they are."""

    def replace(but: str = "none") -> None:
        def tool(order: Mapping[str, Any], scratch: Path) -> Path:
            made, source = scratch / "made", Path(order["source"])
            made.mkdir()
            tensors: dict[str, torch.Tensor] = {}
            for name, tensor in load_file(source / "model.safetensors").items():
                title, _, last = name.rpartition(".")
                if last == "weight" and "_proj" in title and not title.endswith(but):
                    parts = layer(order["method"], tensor.float().numpy(), order["group_size"])
                    tensors |= {f"{title}.{part}": value for part, value in parts.items()}
                else:
                    tensors[name] = tensor
            save_file(tensors, made / "model.safetensors")
            config = {"quantization_config": {"quant_method": order["method"], "rows": order["rows"]}}
            (made / "config.json").write_text(json.dumps(config))
            return made

        monkeypatch.setattr(int4, "_tool", tool)

    return replace


def exported(folder: Path, target: Path, method: Any, **changes: Any) -> ExportMetrics:
    target.mkdir()
    chat = [{"role": "user", "content": "the user said"}]
    given = {"packages": str(PACKAGES), "calibration": [(chat, "the end of it")] * 3, **changes}
    return make(order(Int4(type=method, agreement=0.1), **given), folder, target)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("group", [8, 32])
def test_layouts_are_read_as_they_are_packed(method: str, group: int) -> None:
    weight = np.random.default_rng(0).normal(size=(16, 64)).astype(np.float32)
    parts = layer(method, weight, group)
    found = int4_layout.dequantize(method, parts["qweight"], parts["qzeros"], parts["scales"])
    step = parts["scales"].float().repeat_interleave(group, 0).T
    assert found.shape == (16, 64) and ((found - torch.from_numpy(weight)).abs() <= 0.51 * step + 1e-3).all()


@pytest.mark.parametrize("method", METHODS)
def test_export_is_probed_and_says_its_bits_and_the_students_parameters(
    method: str,
    student: Path,
    tmp_path: Path,
    rounded: Callable[..., None],
) -> None:
    rounded()
    found = exported(student, tmp_path / "model", method)
    assert found.type == method and found.types == {f"{method} of groups of 32": 14} and found.tools == {"auto-round": "0.0.1"}
    assert found.bits_per_weight and 4.5 < found.bits_per_weight < 6 and found.weight_bytes < found.student_weight_bytes
    assert found.probe.examples == 4 and found.probe.agreement >= 0.1
    assert model_size(tmp_path / "model")[:2] == model_size(student)[:2]
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["hidden_size"] == 32 and config["quantization_config"]["quant_method"] == method
    [row] = config["quantization_config"]["rows"]
    assert len(row) > 20 and {path.name for path in (tmp_path / "model").iterdir()} >= {"tokenizer.json", "chat_template.jinja"}


def test_broken_layer_is_refused_with_its_agreement(
    student: Path,
    tmp_path: Path,
    rounded: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounded()
    whole = int4_layout.unpacked
    monkeypatch.setattr(int4_layout, "unpacked", lambda *given: ((name, tensor.roll(1, 0)) for name, tensor in whole(*given)))
    with pytest.raises(ModelError, match=r"s\.x: on \d+ target tokens of 4 validation examples .* expected at least 0\.1"):
        exported(student, tmp_path / "model", "gptq")


def test_layer_that_the_tool_leaves_out_is_named(student: Path, tmp_path: Path, rounded: Callable[..., None]) -> None:
    rounded(but="1.mlp.down_proj")
    with pytest.raises(ModelError, match=r"s\.x: awq: AutoRound left model\.layers\.1\.mlp\.down_proj as they were"):
        exported(student, tmp_path / "model", "awq")


def test_failing_tool_is_quoted_and_nothing_to_calibrate_on_is_named(student: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"s\.x: gptq: AutoRound cannot quantise .*No module named 'auto_round'"):
        exported(student, tmp_path / "model", "gptq")
    with pytest.raises(ModelError, match=r"s\.x: no training example can be read"):
        exported(student, tmp_path / "again", "gptq", calibration=[])


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was ended by signal 9, perhaps for lack of memory"),
        (
            "print('ValueError: no such layer'); print('x INFO no error'); print('WARNING Error: y'); raise SystemExit(1)",
            "no such layer",
        ),
        ("print('x INFO all is well'); raise SystemExit(3)", "exit 3"),
    ],
)
def test_last_words_of_the_tool(script: str, said: str, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "tool.py"
    tool.write_text(script)
    monkeypatch.setattr(int4, "TOOL", tool)
    with pytest.raises(ModelError, match=rf"s\.x: gptq: AutoRound.*{student.name}.*{said}"):
        exported(student, tmp_path / "model", "gptq")


def test_tool_works_in_a_folder_of_its_own_and_reads_relative_paths(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool, seen = tmp_path / "tool.py", tmp_path / "seen.json"
    lines = [
        "import json, os, pathlib, sys",
        "order = json.load(open(sys.argv[1]))",
        "paths = [order['source'], order['packages']]",
        "seen = [[os.path.isabs(path) and os.path.isdir(path) for path in paths], os.getcwd()]",
        f"open({str(seen)!r}, 'w').write(json.dumps(seen))",
        "raise SystemExit('Error: enough')",
    ]
    tool.write_text("\n".join(lines))
    monkeypatch.setattr(int4, "TOOL", tool)
    monkeypatch.chdir(PACKAGES.parent)
    with pytest.raises(ModelError, match="Error: enough"):
        exported(student, tmp_path / "model", "gptq", packages=PACKAGES.name)
    found, folder = json.loads(seen.read_text())
    assert found == [True, True] and Path(folder) != Path.cwd() and not Path(folder).exists()


def test_mixture_of_experts_is_refused_by_name(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 1,
        "vocab_size": 32,
    }
    MixtralConfig(**sizes, num_key_value_heads=4, num_local_experts=2).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"mixtral is a mixture of experts \(.*experts.*Use gguf"):
        int4.check(tmp_path, Int4(type="awq"))


@pytest.mark.parametrize("tied", [True, False])
def test_output_layer_may_be_missing_only_where_it_is_tied(
    tied: bool, student: Path, tmp_path: Path, rounded: Callable[..., None]
) -> None:
    rounded()
    exported(student, tmp_path / "model", "gptq")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": tied}))
    if tied:
        probe.UnpackedChoices(tmp_path / "model", "float32")
        return
    with pytest.raises(ModelError, match=r"lm_head\.weight do not fit LlamaForCausalLM"):
        probe.UnpackedChoices(tmp_path / "model", "float32")


def test_second_student_is_checked_where_the_first_one_is_shrunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = made_run.workspace(str(tmp_path / "run"), tmp_path)
    asked: list[tuple[str, Any]] = []
    monkeypatch.setattr(int4, "check", lambda source, export: asked.append((export.type, export.group_size)))
    monkeypatch.setattr(gguf, "check", lambda source, packages: asked.append(("gguf", None)))
    whole = work.contract.students[0]
    shrunk = Shrink.model_construct(source=whole.init.source)
    exports = [Int4(type="awq"), Int4(type="awq", name="again", agreement=0.2), Int4(type="awq", name="small", group_size=32)]
    files = [Gguf(type="gguf", quantize="q8_0"), Gguf(type="gguf", quantize="q4_k_m")]
    second = whole.model_copy(update={"name": "second", "exports": (*exports, *files)})
    first = second.model_copy(update={"name": "first", "init": whole.init.model_copy(update={"prune": None, "shrink": shrunk})})
    ordered = work.contract.model_copy(update={"students": (first, second)})
    profile = Profile(name="p", exporters={"int4": str(PACKAGES), "gguf": str(PACKAGES)})
    verify_exporters(ordered, profile, root=work.root, models=work.models)
    assert asked == [("gguf", None), ("awq", None), ("awq", 32)]


def test_rows_of_calibration_have_one_length() -> None:
    assert int4.rows_of([[1] * 300, [2] * 300, [3] * 600]) == [[1] * 300 + [2] * 212, [2] * 88 + [3] * 424]
    assert int4.rows_of([[1, 2], [3]]) == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("shapes", "wanted", "size", "said"),
    [
        ({"a": (64, 256), "b": (32, 128)}, None, 128, ""),
        ({"a": (64, 576), "b": (32, 1536)}, None, 64, ""),
        ({"a": (64, 96)}, None, 32, ""),
        ({"a": (64, 96)}, 32, 32, ""),
        ({"a": (64, 576)}, 128, 0, "multiples of 32 outputs and of 128 inputs, found: a has rows of other lengths"),
        ({"a": (64, 64), "b": (64, 80)}, None, 0, "b has rows of other lengths"),
        ({"a": (24, 64)}, None, 0, "a has 24 outputs"),
        ({}, None, 0, "no linear layer"),
    ],
)
def test_groups_are_the_largest_that_fit_all_layers(shapes: Any, wanted: Any, size: int, said: str) -> None:
    ordered = Int4(type="awq", group_size=wanted)
    if not said:
        assert int4.group_size(shapes, ordered) == size
        return
    with pytest.raises(ModelError, match=said):
        int4.group_size(shapes, ordered)


@pytest.mark.parametrize("method", METHODS)
def test_layers_that_do_not_fit_and_a_missing_tool_are_known_before_anything_is_paid(method: str, tmp_path: Path) -> None:
    work = made_run.workspace(str(tmp_path / "run"), tmp_path)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 2}
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "llama", **sizes}))
    raw = work.contract.model_dump(mode="json")
    raw["students"][0]["exports"] = [{"type": method, "group_size": 128}]
    ordered = Contract.model_validate(raw)
    with pytest.raises(ModelError, match=r"students\.0\.exports\.0: needs auto-round.*int4\.txt.*exporters: \{int4: FOLDER\}"):
        verify_exporters(ordered, Profile(name="p", exporters={"int4": "/nowhere"}), root=work.root, models=work.models)
    with pytest.raises(ModelError, match=rf"students\.0\.exports\.0: {method}: expected layers with multiples of"):
        verify_exporters(ordered, Profile(name="p", exporters={"int4": str(PACKAGES)}), root=work.root, models=work.models)


@pytest.mark.parametrize("lacks", ["auto-round", "py-cpuinfo", "datasets"])
def test_each_package_that_the_tool_imports_is_missed_by_name(lacks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert int4.PACKAGES.missing(str(PACKAGES)) == ""
    monkeypatch.setattr(packages, "version_in", lambda name, folder: None if name == lacks else "1")
    assert int4.PACKAGES.missing("/there").startswith(f"needs {lacks}, which is not in /there. Install them there: uv pip")


def test_packages_of_the_tool_bring_what_this_environment_need_not_have() -> None:
    root = Path(__file__).parents[2]
    ours = required(tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"])
    pins = [Requirement(line) for line in int4.PACKAGES.requirements.read_text().splitlines()]
    assert set(int4.PACKAGES.needed) <= {pin.name for pin in pins}
    assert required([pin.name for pin in pins]) - ours <= {pin.name for pin in pins}
    constraints = (root / "cluster" / "constraints.txt").read_text().splitlines()
    assert not [
        str(pin) for pin in pins if any(line.startswith(f"{pin.name}==") for line in constraints) and str(pin) not in constraints
    ]


def required(names: Sequence[str]) -> set[str]:
    """Return the packages `names`, requirements with or without extras, and all that those that are installed require."""
    found, open_ = set[tuple[str, frozenset[str]]](), [Requirement(name) for name in names]
    while open_:
        asked = open_.pop()
        key = (canonicalize_name(asked.name), frozenset(asked.extras))
        if key in found:
            continue
        found.add(key)
        with suppress(metadata.PackageNotFoundError):
            for line in metadata.requires(asked.name) or ():
                further = Requirement(line)
                if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in {"", *asked.extras}):
                    open_.append(further)
    return {name for name, _ in found}


def test_float32_has_no_runtime_in_4_bits() -> None:
    plain: dict[str, Any] = {"name": "s", "init": {"prune": {"source": "m", "layers": [0, 1]}}, "exports": [{"type": "awq"}]}
    assert Student.model_validate(plain).exports[0].name == "awq"
    with pytest.raises(ValueError, match="dtype: found float32 with the export awq, expected bfloat16"):
        Student.model_validate({**plain, "dtype": "float32"})
