"""Small tokenizers with a chat template, made on the spot: bytes, some merges, and turn marks."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TURN = "<s>{{ m['role'] }}\n{{ m['content'] }}</s>"
PROMPT = "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
MARKS = ("<pad>", "<s>", "</s>", "<end>")


def template(turn: str = TURN, prompt: str = PROMPT, begin: str = "") -> str:
    """A chat template that renders each message `m` as `turn`."""
    return f"{begin}{{% for m in messages %}}{turn}{{% endfor %}}{prompt}"


def write(folder: Path, chat_template: str, *, adds_bos: bool = False, eos: str = "</s>", **config: Any) -> Any:
    """Write a tokenizer and a `config.json` with the keys `config` into `folder`; return the tokenizer."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=[*MARKS], initial_alphabet=alphabet, show_progress=False)
    words.train_from_iterator(["It is white. What is the colour of snow?", "user assistant system"], trainer)
    if adds_bos:
        words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token=eos)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end>"]})
    tokenizer.chat_template = chat_template
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    shape = {"model_type": "llama", "vocab_size": len(tokenizer), "num_hidden_layers": 3, **config}
    (folder / "config.json").write_text(json.dumps(shape))
    return tokenizer
