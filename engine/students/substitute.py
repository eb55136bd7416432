"""Other words in the same places: an answer that quotes its prompt is learned as a quotation, not by heart.

A few hundred examples name few things, and a small model soon knows them all: it then answers with a thing that it knows where
the mail names another. So words that stand both in the prompt and in the target are replaced, in both, by words drawn anew in
every epoch. Words that many targets share (keys, labels) stay. Only for tasks whose answers quote their prompts.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

Chat = list[dict[str, str]]
WORD = re.compile(r"[^\W\d_]{3,}")
COMMON = 0.1  # a word that more than this share of the targets has belongs to the form of the answer


def vocabulary(tokenizer: Any) -> list[str]:
    """Return the words that `tokenizer` writes as one token after a space: what words are replaced by."""
    pieces = {tokenizer.convert_tokens_to_string([piece]) for piece in tokenizer.get_vocab()}
    return sorted(piece[1:] for piece in pieces if piece.startswith(" ") and WORD.fullmatch(piece[1:]) and piece.islower())


class Substitute:
    """Replaces each quoted word of an example with probability `share`."""

    def __init__(self, targets: Sequence[str], words: Sequence[str], *, share: float, seed: int) -> None:
        counts = Counter(word for target in targets for word in set(WORD.findall(target)))
        self.fixed = {word for word, count in counts.items() if count > max(1, COMMON * len(targets))}
        self.words, self.share, self.seed = words, share, seed

    def __call__(self, messages: Chat, target: str, number: int, *, epoch: int) -> tuple[Chat, str]:
        """Return the example `number` with other words; which ones depends on seed, epoch and number alone."""
        draw = np.random.default_rng((self.seed, epoch, number))
        asked = set(WORD.findall(" ".join(turn["content"] for turn in messages)))
        quoted = [word for word in dict.fromkeys(WORD.findall(target)) if word in asked and word not in self.fixed]
        chosen = [word for word in quoted if draw.random() < self.share]
        swap = {word: _shaped(self.words[int(draw.integers(len(self.words)))], word) for word in chosen}
        if not swap:
            return messages, target

        def replace(text: str) -> str:
            return WORD.sub(lambda found: swap.get(found[0], found[0]), text)

        return [{**turn, "content": replace(turn["content"])} for turn in messages], replace(target)


def _shaped(word: str, like: str) -> str:
    """Return `word` in capitals as `like` is."""
    if like.isupper():
        return word.upper()
    return word.capitalize() if like[0].isupper() else word
