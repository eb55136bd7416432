"""Trimmed vocabularies: what is kept, what every text becomes, and the model that belongs to it."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tokenizer_world as world
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from engine.contract.init import Init
from engine.contract.students import Student
from engine.errors import ModelError
from engine.students.data import preflight
from engine.students.export import huggingface
from engine.students.init import prune
from engine.students.init.initial import initial
from engine.students.init.tokenizer import build_tokenizer
from engine.students.init.trim import trim

TEXTS = ["ordered two mails then the quick fox", "numbers jumps over"]


def init(**order: Any) -> Init:
    return Init.model_validate({"model": {"source": "x"}, "vocabulary": {"trim": order}})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Kind -> the folders of the whole and of the trimmed tokenizer."""
    made = {}
    for kind, build in world.KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        world.write(build(), folder / "whole")
        build_tokenizer(init(), folder / "whole", TEXTS, folder / "trimmed")
        made[kind] = folder / "whole", folder / "trimmed"
    return made


@pytest.fixture(params=list(world.KINDS))
def pair(request: pytest.FixtureRequest, folders: dict[str, tuple[Path, Path]]) -> tuple[Any, Any]:
    """The whole and the trimmed tokenizer of each kind."""
    whole, trimmed = folders[request.param]
    return AutoTokenizer.from_pretrained(whole), AutoTokenizer.from_pretrained(trimmed)


def tokens(tokenizer: Any, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


def test_texts_that_it_was_trimmed_to_have_the_same_tokens(pair: tuple[Any, Any]) -> None:
    whole, trimmed = pair
    assert len(trimmed) < len(whole)
    for text in TEXTS:
        assert tokens(trimmed, text) == tokens(whole, text)
    chat = [{"role": "user", "content": "x"}]
    assert trimmed.apply_chat_template(chat, tokenize=False) == whole.apply_chat_template(chat, tokenize=False)


@pytest.mark.parametrize("language", world.LANGUAGES)
def test_every_language_is_read_and_written(language: str, pair: tuple[Any, Any]) -> None:
    whole, trimmed = pair
    text = world.LANGUAGES[language] + " lazy dogs"
    ids = trimmed(text, add_special_tokens=False)["input_ids"]
    assert trimmed.decode(ids) == whole.decode(whole(text, add_special_tokens=False)["input_ids"]) == text
    assert max(ids) < len(trimmed)


def test_special_and_added_tokens_are_kept(pair: tuple[Any, Any]) -> None:
    whole, trimmed = pair
    assert trimmed.special_tokens_map == whole.special_tokens_map
    assert [str(token) for token in trimmed.added_tokens_decoder.values()] == [
        str(token) for token in whole.added_tokens_decoder.values()
    ]
    assert tokens(trimmed, "<s>x</s>") == tokens(whole, "<s>x</s>")
    assert sorted(trimmed.get_vocab().values()) == list(range(len(trimmed)))


def test_trimming_again_changes_nothing(folders: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    for kind, (_, trimmed) in folders.items():
        build_tokenizer(init(), trimmed, TEXTS, tmp_path / kind)
        assert json.loads((tmp_path / kind / "tokenizer.json").read_text()) == json.loads((trimmed / "tokenizer.json").read_text())


def test_size_keeps_the_most_frequent_tokens(folders: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    whole, trimmed = folders["gpt2"]
    least = len(preflight.load(trimmed)) - 10
    build_tokenizer(init(size=least), whole, ["the the the the", *TEXTS], tmp_path)
    found = preflight.load(tmp_path)
    assert least - 5 <= len(found) <= least
    assert tokens(found, "the") == ["the"]
    assert found.decode(found(TEXTS[0])["input_ids"]) == TEXTS[0]


def test_more_texts_keep_their_tokens(folders: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    build_tokenizer(init(texts=["lazy lazy dogs"]), folders["gpt2"][0], TEXTS, tmp_path)
    assert tokens(preflight.load(tmp_path), "lazy dogs") == tokens(preflight.load(folders["gpt2"][0]), "lazy dogs")


def test_a_size_below_the_bytes_is_refused(folders: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"trim.size: found 100, expected at least 26\d: every byte and every added token"):
        build_tokenizer(init(size=100), folders["gpt2"][0], TEXTS, tmp_path)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (models.WordLevel({"a": 0, "<s>": 1}, unk_token="a"), "its model is WordLevel, expected BPE or Unigram"),
        (models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]), "its BPE has no tokens for bytes"),
        (models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0), "its Unigram has no tokens for bytes"),
        (models.BPE({"a": 0, "b": 1}, [], continuing_subword_prefix="##"), "its BPE marks the parts of words"),
    ],
)
def test_a_vocabulary_that_cannot_write_every_text_is_refused(model: Any, said: str, tmp_path: Path) -> None:
    world.write(Tokenizer(model), tmp_path / "whole")
    with pytest.raises(ModelError, match=f"PreTrainedTokenizerFast|TokenizersBackend.*{said}.*byte fallback"):
        build_tokenizer(init(), tmp_path / "whole", TEXTS, tmp_path / "trimmed")


def written(folder: Path, *, tied: bool) -> Path:
    """Write a small Llama for the tokenizer in `folder`, and return it."""
    torch.manual_seed(0)
    tokenizer = preflight.load(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 5, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        tie_word_embeddings=tied, bos_token_id=tokenizer.bos_token_id, eos_token_id=[tokenizer.eos_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["gpt2", "qwen", "llama2"])
def test_kept_tokens_have_the_logits_of_the_whole_model(kind: str, tied: bool, folders: Any, tmp_path: Path) -> None:
    source = written(world.write(world.KINDS[kind](), tmp_path / "whole"), tied=tied)
    whole, tokenizer = prune.load(source), preflight.load(folders[kind][1])
    made = trim(prune.load(source), tokenizer)
    before, after = (torch.tensor(one(TEXTS[0])["input_ids"])[None] for one in (whole.tokenizer, tokenizer))
    kept = [whole.tokenizer.get_vocab()[token] for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    for model in (whole.model, made.model):
        model.eval()
    with torch.no_grad():
        expected, found = (m(ids, output_hidden_states=True) for m, ids in ((whole.model, before), (made.model, after)))
    assert torch.equal(found.hidden_states[-1], expected.hidden_states[-1])
    torch.testing.assert_close(found.logits, expected.logits[..., kept], rtol=1e-6, atol=1e-6)
    config = made.model.config
    assert (config.vocab_size, config.bos_token_id, config.eos_token_id, config.pad_token_id) == (
        len(tokenizer), tokenizer.bos_token_id, [tokenizer.eos_token_id], tokenizer.pad_token_id,
    )  # fmt: skip
    assert made.model.generation_config.eos_token_id == config.eos_token_id
    huggingface.verify(made, tmp_path)


@pytest.mark.parametrize("kind", world.KINDS)
def test_every_language_has_the_logits_of_the_whole_model(kind: str, folders: Any, tmp_path: Path) -> None:
    """The trimmed tokenizer splits other languages into more tokens; of these the whole model says the same."""
    source = written(shutil.copytree(folders[kind][0], tmp_path / "whole"), tied=True)
    whole, tokenizer = prune.load(source), preflight.load(folders[kind][1])
    made = trim(prune.load(source), tokenizer)
    vocabulary = whole.tokenizer.get_vocab()
    kept = [vocabulary[token] for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    for text in world.LANGUAGES.values():
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            found = made.model.eval()(torch.tensor([ids])).logits
            expected = whole.model.eval()(torch.tensor([[kept[one] for one in ids]])).logits
        torch.testing.assert_close(found, expected[..., kept], rtol=1e-5, atol=1e-6)


def test_tokens_without_a_row_are_refused(folders: Any, tmp_path: Path) -> None:
    source = written(world.write(world.KINDS["gpt2"](), tmp_path / "whole"), tied=True)
    made = prune.load(source)
    made.model.resize_token_embeddings(len(made.tokenizer) - 1, mean_resizing=False)
    with pytest.raises(ModelError, match=r"the tokens \['<think>'\] have no row"):
        trim(made, preflight.load(folders["gpt2"][1]))


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_trimmed_embeddings_are_frozen_as_ordered(tied: bool, frozen: bool, folders: Any, tmp_path: Path) -> None:
    source = written(world.write(world.KINDS["gpt2"](), tmp_path / "whole"), tied=tied)
    section = {"name": "s", "init": {"model": {"source": "x"}, "vocabulary": {}}, "freeze_embeddings": frozen}
    spec: Any = SimpleNamespace(student=Student.model_validate(section), source_folder=source)
    made = initial(spec, preflight.load(folders["gpt2"][1]))
    embeddings, output = made.model.get_input_embeddings().weight, made.model.get_output_embeddings().weight
    assert (embeddings is output) is tied and embeddings.shape[0] == len(made.tokenizer)
    assert embeddings.requires_grad is output.requires_grad is not frozen
    assert all(parameter.requires_grad for name, parameter in made.model.named_parameters() if "layers" in name)
