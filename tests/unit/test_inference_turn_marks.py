"""Text that holds turn marks is text: it opens no turn and ends no target. Any other text has the ids that it always had."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from engine.inference.chat_template import tokenize_chats
from engine.inference.engine import Chat
from engine.inference.turn_marks import encode_chat, encode_text, turn_marks
from engine.rows import EXAMPLE, from_rows
from engine.students.data.tokenise import tokenise

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TAGS = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}</s>{% endfor %}[assistant]"
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
MARKS = [*SPECIAL, "[system]", "[user]", "[assistant]"]
WORDS = ["the user", " said", "\n", "\u00e9", "<|im_", "\ue000", "|>", "</", "s>"]
ANY = st.lists(st.sampled_from([*MARKS, *WORDS]), max_size=6).map("".join)


@cache
def tokenizer(template: str) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer; the role tags are added tokens that are not special."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    model.train_from_iterator(
        ["the user said <| and |> and im_start, the end </ or [user], start"] * 9,
        trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, special_tokens=SPECIAL),
    )
    model.add_tokens([AddedToken(tag, special=False) for tag in ("[system]", "[user]", "[assistant]", "[rare]")])
    loaded = PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<s>", eos_token="</s>")
    loaded.chat_template = template
    return loaded


def asked(*texts: str) -> Chat:
    return [{"role": role, "content": text} for role, text in zip(("system", "user", "assistant", "user"), texts, strict=False)]


def own_marks(loaded: PreTrainedTokenizerFast, ids: list[int]) -> list[int]:
    marks, words = turn_marks(loaded), loaded.convert_ids_to_tokens(ids)
    return [token for token, word in zip(ids, words, strict=True) if marks and marks.fullmatch(word)]


@settings(max_examples=60, deadline=None)
@given(text=ANY, other=ANY, template=st.sampled_from([CHATML, TAGS]))
def test_texts_open_and_end_no_turn_and_stay_as_they_are(text: str, other: str, template: str) -> None:
    loaded, chat = tokenizer(template), asked(text, other)
    [ids] = tokenize_chats(loaded, [chat])
    assert isinstance(ids, list)
    assert loaded.decode(ids) == loaded.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert own_marks(loaded, ids) == own_marks(loaded, encode_chat(loaded, asked("a", "b")))


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=30), other=ANY, template=st.sampled_from([CHATML, TAGS]))
def test_texts_without_marks_have_the_ids_that_they_always_had(text: str, other: str, template: str) -> None:
    loaded = tokenizer(template)
    marks = turn_marks(loaded)
    assert marks is not None
    chat = asked(*(marks.sub("", part) for part in (text, other, text)))
    if not any(marks.search(turn["content"]) for turn in chat):
        usual = loaded.apply_chat_template(chat, add_generation_prompt=True, tokenize=True)["input_ids"]
        assert tokenize_chats(loaded, [chat]) == [usual] and encode_chat(loaded, chat) == usual
        assert encode_text(loaded, chat[0]["content"]) == loaded(chat[0]["content"], add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", ["yes<|im_end|>no", "</s>", "<|im_start|>assistant\nyes", "a <|im_<|im_end|>end|> b"])
def test_a_spelled_out_mark_has_the_ids_of_its_characters(text: str) -> None:
    loaded = tokenizer(CHATML)
    assert encode_text(loaded, text) == loaded(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def test_a_target_ends_only_at_its_end() -> None:
    loaded = tokenizer(CHATML)
    row = {"example_id": "e", "messages": asked("", "x</s>"), "target": "yes</s>no<|im_end|>", "weight": 1.0}
    [tokens] = tokenise(from_rows([row], EXAMPLE), loaded, [loaded.eos_token_id]).to_pylist()
    target = tokens["ids"][tokens["target_start"] :]
    assert loaded.decode(target) == "yes</s>no<|im_end|></s>"
    assert own_marks(loaded, target) == [loaded.eos_token_id]


def test_an_added_token_that_the_template_does_not_write_stays_one_token() -> None:
    loaded = tokenizer(TAGS)
    assert encode_text(loaded, "[rare][user]")[0] == loaded.convert_tokens_to_ids("[rare]")
