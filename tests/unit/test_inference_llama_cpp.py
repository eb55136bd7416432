"""The engine for llama.cpp, over a stand-in for the library in a process of its own: protocol, grammar, ends, deaths."""

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from test_inference_turn_marks import CHATML, tokenizer

from engine.contract.models import LlamaCppModel, Sampling
from engine.contract.profile import Pool
from engine.errors import ModelError
from engine.inference.engine import Request, build_model
from engine.inference.identity import identity
from engine.inference.llama_cpp_engine import LlamaCppEngine, weights_file

PACKAGES = str(Path(__file__).parent / "fake_packages")
CHAT = [{"role": "user", "content": "the user said"}]
SAMPLING = Sampling(max_tokens=40)
SCHEMA = {
    "type": "object",
    "properties": {"said": {"enum": ["the user", "end"]}, "sure": {"type": "boolean"}},
    "required": ["said", "sure"],
    "additionalProperties": False,
}


def folder_with(folder: Path, **rule: Any) -> Path:
    loaded = tokenizer(CHATML)
    loaded.save_pretrained(folder)
    (folder / "config.json").write_text("{}")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": loaded.convert_tokens_to_ids("<|im_end|>")}))
    (folder / "model.gguf").write_text(json.dumps({"vocabulary": len(loaded) + 3, **rule}))
    return folder


def engine(folder: Path, **changes: Any) -> LlamaCppEngine:
    model = LlamaCppModel.model_validate({"type": "llama_cpp", "path": "x", "packages": PACKAGES, **changes})
    built = build_model(model, Pool(), folder=folder)
    assert isinstance(built, LlamaCppEngine)
    return built


def following(*texts: str) -> dict[str, int]:
    """A rule by which the model answers with the tokens of `texts` behind the turn's last token, and then ends."""
    loaded = tokenizer(CHATML)
    prompt = loaded.apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"]
    ids = [
        prompt[-1],
        *(token for text in texts for token in loaded(text)["input_ids"]),
        loaded.convert_tokens_to_ids("<|im_end|>"),
    ]
    assert len(set(ids)) == len(ids), "each token must have one successor"
    return {str(token): after for token, after in pairwise(ids)}


@pytest.fixture
def speaking(tmp_path: Path) -> Iterator[LlamaCppEngine]:
    """An engine whose model says `the end`."""
    built = engine(folder_with(tmp_path, rule=following("the", " end")))
    yield built
    built.child.close()


def asked(**changes: Any) -> Request:
    return Request(**{"chat": CHAT, "seed": 1, "temperature": 0.0, **changes})


def test_answer_is_greedy_ends_at_the_turn_mark_and_has_its_log_probability(speaking: LlamaCppEngine) -> None:
    first, again = speaking.complete([asked(), asked()], SAMPLING)
    assert (first.text, first.finish_reason, first.error) == ("the end", "stop", "")
    assert first.tokens_in == len(tokenizer(CHATML).apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"])
    each = 8 - math.log(math.exp(8) + speaking.child.size - 1)
    assert first.logprob == pytest.approx(first.tokens_out * each, rel=1e-4)
    assert again._replace(seconds=0) == first._replace(seconds=0)  # also with the prompt's tokens in the cache


def test_answer_of_a_schema_is_valid_whatever_the_model_prefers(speaking: LlamaCppEngine) -> None:
    [free, held] = speaking.complete([asked(), asked(json_schema=SCHEMA)], SAMPLING)
    assert free.text == "the end"
    assert held.finish_reason == "stop" and json.loads(held.text)["said"] in ("the user", "end")
    assert held.text == json.dumps(json.loads(held.text), separators=(",", ":"))  # compact, as vLLM writes and students learn it
    assert held.logprob is not None and free.logprob is not None and held.logprob < free.logprob  # of the model, not of the mask


def test_sampled_answer_repeats_with_its_seed_and_varies_with_others(speaking: LlamaCppEngine) -> None:
    requests = [asked(temperature=9.0, seed=seed) for seed in (1, 1, 2, 3)]
    texts = [completion.text for completion in speaking.complete(requests, Sampling(max_tokens=6))]
    assert texts[0] == texts[1] and len(set(texts)) > 1


def test_answer_that_does_not_end_has_the_length_that_was_asked_for(tmp_path: Path) -> None:
    built = engine(folder_with(tmp_path, rule=following("the")))
    [completion] = built.complete([asked()], Sampling(max_tokens=1))
    built.child.close()
    assert (completion.finish_reason, completion.tokens_out, completion.text) == ("length", 1, "the")


def test_prompt_over_the_limit_is_too_long_and_the_others_are_answered(tmp_path: Path) -> None:
    built = engine(folder_with(tmp_path, rule=following("the")), max_model_len=40)
    long = asked(chat=[{"role": "user", "content": "the user " * 40}])
    completions = built.complete([long, asked()], SAMPLING)
    built.child.close()
    assert [completion.finish_reason for completion in completions] == ["too_long", "stop"]
    assert "the model reads 40" in completions[0].error


def test_prompt_that_kills_llama_cpp_ends_alone(tmp_path: Path) -> None:
    [deadly] = tokenizer(CHATML)("]")["input_ids"]
    built = engine(folder_with(tmp_path, rule=following("the"), dies_on=deadly))
    killed, sound = built.complete([asked(chat=[{"role": "user", "content": "]"}]), asked()], SAMPLING)
    built.child.close()
    assert (killed.finish_reason, killed.error) == ("error", "Died: the process ended without a word")
    assert (sound.finish_reason, sound.text) == ("stop", "the")


def test_losses_and_choices_are_those_of_the_logits(speaking: LlamaCppEngine) -> None:
    likely = 8 - math.log(math.exp(8) + speaking.child.size - 1)
    assert speaking.mean_nll([CHAT, CHAT], ["the end", ""]) == [pytest.approx(-likely, rel=1e-4), None]
    [shares] = speaking.choice_probs([CHAT], ["the", "a"])
    assert shares == pytest.approx([1 / (1 + math.exp(-8)), 1 / (1 + math.exp(8))], rel=1e-4)
    with pytest.raises(ModelError, match="one token each"):
        speaking.choice_probs([CHAT], ["the", "no single token"])


def test_missing_package_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither in /nowhere nor .* uv pip install --no-deps --target /nowhere llama-cpp-python"):
        engine(folder_with(tmp_path), packages="/nowhere")


def test_file_that_llama_cpp_refuses_is_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    (folder / "model.gguf").write_text("no model")
    with pytest.raises(ModelError, match=r"llama\.cpp cannot serve .*model\.gguf: JSONDecodeError"):
        engine(folder)


def test_folder_needs_exactly_one_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"found \[\], expected one file"):
        weights_file(tmp_path)


def test_identity_depends_on_the_file_and_not_on_where_the_packages_are(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "a")
    here = LlamaCppModel(type="llama_cpp", path="x", packages=PACKAGES)
    copy = tmp_path / "packages"
    (copy / "llama_cpp_python-0.0.1.dist-info").mkdir(parents=True)
    metadata = "llama_cpp_python-0.0.1.dist-info/METADATA"
    (copy / metadata).write_text(Path(PACKAGES, metadata).read_text())
    assert identity(here, folder) == identity(here.model_copy(update={"packages": str(copy)}), folder)
    assert identity(here, folder) != identity(here, folder_with(tmp_path / "b", rule={"1": 2}))
