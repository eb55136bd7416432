"""Small tokenizers of every kind that real models have, trained on the spot."""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TURN = "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
TEMPLATE = TURN + "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
WORDS = "order ordered ordering two three mails mailing the them then number numbers quick quickly brown fox jumps over lazy dogs"
CORPUS = [" ".join(WORDS.split()[start::step]) for start in range(9) for step in (1, 2, 3)] * 3
LANGUAGES = {
    "german": "Gr\u00fc\u00dfe aus K\u00f6ln, 12.345,67 \u20ac",
    "russian": "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!",
    "chinese": "\u4f60\u597d\uff0c\u4e16\u754c\u3002",
    "arabic": "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "hindi": "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
    "japanese": "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c",
    "code": "def f(x):\n\treturn {'a': x ** 2}  # 3.14\n\n\n",
    "digits": "0123456789 00 1e-7 -42",
    "emoji": "\U0001f44d\U0001f3fd \U0001f469\u200d\U0001f4bb!",
}
SPECIAL = ["<pad>", "<s>", "</s>"]
GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def byte_level(*, ignore_merges: bool = False, split: bool = False, after: bool = False) -> Tokenizer:
    """As of GPT-2 and SmolLM2; with `split` and `ignore_merges` as of Llama 3; `after`: special tokens are behind the others."""
    words = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    steps = [pre_tokenizers.Split(Regex(GPT4), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    words.pre_tokenizer = pre_tokenizers.Sequence(steps) if split else pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    first = [] if after else SPECIAL
    words.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=420, special_tokens=first, initial_alphabet=alphabet))
    words.add_special_tokens(SPECIAL)
    words.add_tokens([AddedToken("<think>", normalized=False)])
    if split:
        pair = [("<s>", words.token_to_id("<s>"))]
        words.post_processor = processors.Sequence([processors.TemplateProcessing(single="<s> $A", special_tokens=pair)])
    return words


def byte_fallback() -> Tokenizer:
    """As of Llama 2 and Gemma: characters, with bytes for unknown ones; a text is one word."""
    special = ["<unk>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    words = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    words.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="first", split=True)
    words.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=600, special_tokens=special))
    return _spelled(words)


def unigram() -> Tokenizer:
    """As of SentencePiece's default, with byte fallback."""
    words = Tokenizer(models.Unigram())
    words.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="first")
    special = ["<unk>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.UnigramTrainer(vocab_size=420, special_tokens=special, unk_token="<unk>")
    words.train_from_iterator(CORPUS, trainer)
    return _spelled(words)


def _spelled(words: Tokenizer) -> Tokenizer:
    """Return `words` with the normalizer and decoder of Llama 2, with bytes as words that no text is taken for."""
    spec = json.loads(words.to_str())
    spec["added_tokens"] = [token for token in spec["added_tokens"] if not token["content"].startswith("<0x")]
    spec["model"]["byte_fallback"] = True
    made = Tokenizer.from_str(json.dumps(spec))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made.pre_tokenizer = None  # type: ignore[assignment]
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    return made


KINDS = {
    "gpt2": byte_level,
    "llama3": lambda: byte_level(ignore_merges=True, split=True),
    "qwen": lambda: byte_level(split=True, after=True),
    "llama2": byte_fallback,
    "unigram": unigram,
}


def write(words: Tokenizer, folder: Path) -> Path:
    """Write `words` as a model's tokenizer with a chat template into `folder`, and return it."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder
