"""Initial weights on real DeepSpeed and vLLM: trimmed vocabularies and adapters, interrupted, exported, loaded."""

import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import initial_world
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from test_students import validation_loss
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.contract.init import Init
from engine.contract.models import Sampling, VllmModel
from engine.contract.profile import Pool
from engine.inference.engine import Request
from engine.inference.locate import locate
from engine.inference.vllm_engine import VllmEngine
from engine.students.data import preflight
from engine.students.export import huggingface
from engine.students.init.prune import parameters, prune
from engine.students.init.tokenizer import build_tokenizer
from engine.students.init.trim import trim
from engine.students.training.checkpoint_state import Progress
from engine.students.training.zero import STATE
from jobs.places import models_home

ROOT = Path(__file__).parents[2]
MAILS = ROOT / "jobs" / "contracts" / "order_mail" / "train.jsonl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the students were trained."""
    folder = tmp_path_factory.mktemp("initial")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with (folder / "log").open("w") as log:
        command = [sys.executable, initial_world.__file__, str(folder)]
        code = subprocess.run(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": paths}, timeout=900).returncode
    assert code == 0, (folder / "log").read_text()[-3000:]
    return folder


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in Progress.read(folder).curve]


@pytest.mark.parametrize("name", ["whole", "lora", "small", "small_dora"])
def test_the_exported_student_has_the_best_validation_loss_in_transformers(name: str, folder: Path) -> None:
    progress, best = Progress.read(folder / "alone" / name), folder / "alone" / name / "best"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(best), AutoTokenizer.from_pretrained(best)
    assert validation_loss(model, tokenizer) == pytest.approx(progress.best, rel=1e-4)
    assert losses(folder / "alone" / name)[0] > progress.best


def test_a_trimmed_student_has_fewer_rows(folder: Path) -> None:
    source = AutoModelForCausalLM.from_pretrained(folder / "teacher")
    student = AutoModelForCausalLM.from_pretrained(folder / "alone" / "small" / "best")
    tokenizer = AutoTokenizer.from_pretrained(folder / "alone" / "small" / "best")
    assert len(tokenizer) == student.config.vocab_size < source.config.vocab_size


def test_an_adapter_that_was_interrupted_has_the_losses_of_an_unbroken_one(folder: Path) -> None:
    assert Progress.read(folder / "broken" / "lora").resumed_from == [4, 12]
    assert losses(folder / "broken" / "lora") == losses(folder / "alone" / "lora")
    for part in ("model.safetensors", "adapter/adapter_model.safetensors", "base/model.safetensors"):
        files = (folder / kind / "lora" / "best" / part for kind in ("alone", "broken"))
        assert len({file.read_bytes() for file in files}) == 1


def test_checkpoints_of_an_adapter_hold_it_and_its_optimizer_only(folder: Path) -> None:
    adapter, whole = (json.loads((folder / "alone" / f"{name}-8.json").read_text()) for name in ("lora", "whole"))
    assert {name for name in adapter if name.startswith("best/")} == {
        "best/adapter/adapter_config.json",
        "best/adapter/adapter_model.safetensors",
    }
    state, of_whole = (sum(size for name, size in one.items() if name.startswith(f"{STATE}-")) for one in (adapter, whole))
    assert 0 < state <= of_whole / 20  # weights that are trained, and their moments


def test_an_adapter_that_is_kept_answers_as_the_merged_model(folder: Path) -> None:
    best = folder / "alone" / "lora" / "best"
    tokenizer = AutoTokenizer.from_pretrained(best)
    unmerged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(best / "base"), str(best / "adapter"))
    ids = torch.tensor([tokenizer("say abc")["input_ids"]])
    options = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "do_sample": False, "max_new_tokens": 8}
    merged = AutoModelForCausalLM.from_pretrained(best).generate(**options)
    assert torch.equal(unmerged.generate(**options), merged)
    assert load_file(best / "adapter" / "adapter_model.safetensors")


def answers(folder: Path, texts: list[str]) -> list[str]:
    """What vLLM answers greedily."""
    engine = VllmEngine(VllmModel(type="vllm", path="small", dtype="float32", max_model_len=256), Pool(kv_cache_gib=0.2), folder)
    asked = [Request([{"role": "user", "content": text}], 1, 0.0) for text in texts]
    return [one.text for one in engine.complete(asked, Sampling(max_tokens=16))]


def generated(model: Any, tokenizer: Any, text: str) -> str:
    ids = torch.tensor([preflight.tokenize_chats(tokenizer, [[{"role": "user", "content": text}]])[0]])
    found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16)
    return tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)


def test_smollm2_with_the_words_of_the_mails_is_loaded_by_vllm(tmp_path: Path) -> None:
    source = locate("smollm2-135m-instruct", root=".", home=str(models_home()))
    texts = [json.loads(line)["input"] for line in MAILS.read_text().splitlines()][:200]
    init = Init.model_validate({"prune": {"source": "x", "layers": [0, 17, 29]}, "vocabulary": {}})
    build_tokenizer(init, source, texts, tmp_path / "tokenizer")
    whole = prune(source, (0, 17, 29))
    before = parameters(whole.model)
    made = trim(whole, preflight.load(tmp_path / "tokenizer"))
    assert len(made.tokenizer) < 4000 and parameters(made.model) < 0.35 * before
    weights = {huggingface.PREFIX + name: tensor for name, tensor in made.model.state_dict().items()}
    huggingface.write(made, weights, tmp_path / "model", dtype="float32")

    asked = [texts[0], "Gr\u00fc\u00dfe! \u4f60\u597d \U0001f44d"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    expected = [generated(model, made.tokenizer, text) for text in asked]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        assert apart.submit(answers, tmp_path / "model", asked).result() == expected


def test_the_bundled_model_passes_what_check_leaves_out_of_it() -> None:
    preflight.check_source(locate("smollm2-135m-instruct", root=".", home=str(models_home())))
