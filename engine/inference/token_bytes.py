"""The bytes of each token of a tokenizer, with which texts in different vocabularies are laid side by side."""

from functools import lru_cache
from typing import Any


@lru_cache(maxsize=8)
def token_bytes(tokenizer: Any) -> list[bytes]:
    """Return the bytes that each id stands for, in the order of the ids; of a special token those of its name.

    xgrammar decodes the three ways in which vocabularies write bytes: as they are, as characters (byte-level BPE), and as `<0xE2>`
    beside plain characters (SentencePiece).
    """
    import xgrammar

    return list(xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=len(tokenizer)).decoded_vocab)


def special_ids(tokenizer: Any) -> set[int]:
    """Return the ids of special tokens."""
    return {*tokenizer.all_special_ids, *(at for at, token in tokenizer.added_tokens_decoder.items() if token.special)}
