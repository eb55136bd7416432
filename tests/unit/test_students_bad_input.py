"""Bad input of students: each is refused with a clear message, before a training wherever it can be known, by `rayleigh check`."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_run
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from engine.contract.contract import Contract
from engine.contract.profile import Profile
from engine.errors import InputError, ModelError
from engine.records.record import Identity
from engine.records.tokens import TokensMetrics
from engine.storage.artifact import ArtifactWriter, RowCounts
from engine.students.init import prune, weights
from jobs.cli import app
from jobs.commands.check import verify_exporters
from jobs.pipeline import pipeline
from jobs.steps import students
from tests.families import tiny

WORDS = 64  # tokens of the model, as its configuration says
ENDPOINT = "teachers.models=[{name: t, model: {type: endpoint, url: http://h/v1, path: m, logprobs: %s}}]"
OWN = "teachers.models.0.model={type: vllm, path: model, max_model_len: 64}"
PACKAGES = Path(__file__).parent / "fake_packages"


def write(
    folder: Path, family: str = "llama", *, tied: bool = False, saved: Callable[[Any], Any] = lambda tensors: tensors
) -> Path:
    """Write a tiny random model and its tokenizer; `saved` changes the tensors of its file."""
    config = tiny(family)
    config.tie_word_embeddings = tied
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    file = folder / weights.WHOLE
    save_file(saved(load_file(file)), file, metadata={"format": "pt"})
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<e>": 2}, unk_token="a"))
    template = "{{ messages[0]['content'] }}{% for m in messages[1:] %}{{ m['content'] + eos_token }}{% endfor %}"
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<e>", chat_template=template).save_pretrained(folder)
    return folder


def change(folder: Path, **keys: Any) -> None:
    """Change keys of the configuration of the model in `folder`."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def without(name: str) -> Callable[[Any], Any]:
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


def with_output(tensors: Any) -> Any:
    return {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"] + 1}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A contract, and a model beside others that have a fault each."""
    root = tmp_path_factory.mktemp("root")
    made_run.workspace(str(root / "run"), root)
    write(root / "model")
    write(root / "tied", tied=True)
    write(root / "headless", saved=without("lm_head.weight"))
    write(root / "holes", saved=without("model.layers.2.mlp.up_proj.weight"))
    write(root / "front", saved=lambda tensors: {name: each for name, each in tensors.items() if ".layers." not in name})
    write(root / "short")
    file = root / "short" / weights.WHOLE
    file.write_bytes(file.read_bytes()[:-8])
    write(root / "shards")
    (root / "shards" / weights.INDEX).write_text(json.dumps({"weight_map": {"lm_head.weight": "gone.safetensors"}}))
    write(root / "eight")
    change(root / "eight", quantization_config={"quant_method": "fp8"})
    return root


def check(root: Path, changes: tuple[str, ...], code: int) -> str:
    words = [word for change in changes for word in ("--set", change)]
    result = CliRunner().invoke(app, ["check", str(root / "toy.yaml"), *words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


def source(name: str) -> str:
    return f"students.0.init={{model: {{source: {name}}}}}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ((ENDPOINT % "false", "capture={}"), "capture.teachers: t is a teacher without log-probabilities (of given texts)"),
        (
            (ENDPOINT % "true", "students.0.objectives={sft: 0, forward_kl: 1}"),
            "reads the teacher's distribution; write the section",
        ),
        (
            (ENDPOINT % "true", "students.0.on_policy={objective: on_policy_kl, teacher: t}"),
            "t is of type endpoint, which gives no log-probabilities of samples",
        ),
        ((OWN, "capture={k: 65}"), f"capture.k: found 65, but the teacher t has {WORDS} tokens"),
        ((OWN, "capture={mass: 0.9, most: 65}"), f"capture.most: found 65, but the teacher t has {WORDS} tokens"),
        (
            ("students.0.on_policy={objective: on_policy_kl, teacher: source, k: 65}",),
            f"on_policy.k: found 65, but source has {WORDS} tokens. Write at most that.",
        ),
        (
            ("students.0.init={model: {source: tied}, adapter: {targets: [lm_head]}}",),
            "init.adapter.targets: lm_head shares its weights with another layer",
        ),
        ((source("headless"),), "its files lack lm_head.weight, which would begin with random numbers. If its output layer is"),
        ((source("front"),), "its files lack layers.0.*, layers.1.*, layers.2.*"),
        ((source("holes"),), "its files lack layers.2.mlp.up_proj.weight, which would begin with random numbers. Copy the"),
        ((source("short"),), "short/model.safetensors: cannot be read: "),
        ((source("shards"),), "shards/gone.safetensors: cannot be read: "),
        ((source("eight"),), "is quantised (quantization_config of config.json: fp8), and a student begins with floating-point"),
        (
            ("judges.checks=[{type: regex, pattern: x}]", "students.0.on_policy={objective: grpo, rewards: {regex: 0}}"),
            "rewards: found {'regex': 0.0}, expected weights above 0",
        ),
        (("students.0.objectives={dpo: 1}",), "dpo reads preference pairs, and none are made; write `preferences: {}` in curation"),
        (
            ("students.0.objectives={simpo: 1}", "curation.preferences={}"),
            "every prompt gets one answer, and small learns from pairs of two answers to one prompt",
        ),
        (("students.0.init={shrink: {source: model, to: 1000}}",), "init.shrink.to: found 1000, expected at least"),
    ],
)
def test_check_refuses_what_cannot_be_learned(root: Path, changes: tuple[str, ...], said: str) -> None:
    assert said in check(root, changes, 1)


@pytest.mark.parametrize(
    "changes",
    [
        (OWN, f"capture={{k: {WORDS}}}", "students.0.objectives={forward_kl: 1}"),
        (source("tied"),),
        ("students.0.objectives={sft: 0, dpo: 1}", "curation.preferences={}", "teachers.models.0.sampling.n=2"),
    ],
)
def test_check_takes_what_is_just_possible(root: Path, changes: tuple[str, ...]) -> None:
    assert "small: " in check(root, changes, 0)


def test_check_says_where_the_gate_could_not_see_that_distillation_hurt(root: Path) -> None:
    init = "{prune: {source: model, layers: [0, 1]}}"
    both = f"students=[{{name: kd, init: {init}, objectives: {{forward_kl: 1}}}}, {{name: plain, init: {init}}}]"
    said = "kd: whether forward_kl hurt it is not measured; add a student that differs by `objectives: {sft: 1}` alone"
    assert said in check(root, (OWN, "capture={}", both), 0)
    assert "is not measured" not in check(root, (OWN, "capture={}", both, "gate.hurt_by={twins: {kd: plain}}"), 0)


@pytest.mark.parametrize(
    ("family", "tied", "saved", "said"),
    [
        ("llama", True, with_output, "config.json says tie_word_embeddings: true, and the files hold an output layer with other"),
        ("qwen2", False, without("lm_head.weight"), "its files lack lm_head.weight, which would begin with random numbers"),
        ("qwen2", False, without("model.layers.1.mlp.up_proj.weight"), r"lack model\.layers\.1\.mlp\.up_proj\.weight"),
    ],
)
def test_weights_that_transformers_would_make_up_are_refused_when_they_are_loaded(
    family: str, tied: bool, saved: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=said):
        prune.load(write(tmp_path, family, tied=tied, saved=saved))


def test_output_layer_that_is_saved_beside_equal_embeddings_is_no_fault(tmp_path: Path) -> None:
    folder = write(
        tmp_path, tied=True, saved=lambda tensors: {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    )
    loaded = prune.load(folder).model
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight


@pytest.mark.parametrize(("architecture", "refused"), [("LlamaForCausalLM", False), ("NoSuchForCausalLM", True)])
def test_architecture_that_the_converter_does_not_know_is_refused_before_anything_is_paid(
    architecture: str, refused: bool, tmp_path: Path
) -> None:
    work = made_run.workspace(str(tmp_path / "run"), tmp_path)
    change(tmp_path / "model", architectures=[architecture])
    raw = work.contract.model_dump(mode="json")
    raw["students"][0]["exports"] = [{"type": "int8"}, {"type": "gguf"}]
    ordered, profile = Contract.model_validate(raw), Profile(name="p", exporters={"gguf": str(PACKAGES)})
    if not refused:
        return verify_exporters(ordered, profile, root=work.root, models=work.models)
    said = (
        rf"students\.0\.exports\.1: gguf: llama.cpp's tools cannot read .*model: .*'{architecture}' not supported.*another export"
    )
    with pytest.raises(ModelError, match=said):
        verify_exporters(ordered, profile, root=work.root, models=work.models)


def test_job_without_pairs_is_refused_with_what_makes_them(tmp_path: Path) -> None:
    work = made_run.made_run(str(tmp_path / "run"), tmp_path / "seeds")
    raw = work.contract.model_dump(mode="json")
    raw["students"][0]["objectives"], raw["curation"]["preferences"] = {"dpo": 1}, {}
    writer = ArtifactWriter(work.folder / "tokens", metrics=TokensMetrics(tokenizers=[]))
    writer.finish(Identity("tokens", {}, {}, "0"), RowCounts(0, {}))
    ordered = replace(work, contract=Contract.model_validate(raw))
    job = next(job for job in pipeline(ordered.contract) if job.name == "students/small")
    said = (
        r"the table preferences has no pairs for train, and students\.small\.objectives \(sft, dpo\) needs some\. Pairs are made by"
    )
    with pytest.raises(InputError, match=said):
        students.run(ordered.context(job, log=lambda text: None, progress=lambda text: None))
