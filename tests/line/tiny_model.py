"""A model that trains and answers in seconds: random weights, the tokenizer and the chat template of a real one."""

from pathlib import Path

from engine.inference.bundled import unpack
from jobs.places import models_home


def write_tiny(folder: Path) -> None:
    """Write a random two-layer Llama with the tokenizer of a real one."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(unpack("smollm2-135m-instruct", Path(models_home())))
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
