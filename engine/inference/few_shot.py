"""Worked examples for a prompt: some fixed, some chosen because their inputs are similar to it."""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from engine.contract.teachers import Shot, Shots

Pair = tuple[str, str]
"""Input and output of an example."""


class FewShotSelector:
    """Chooses the worked examples of each prompt. The fixed ones come first and stay in the engine's prefix cache."""

    def __init__(self, section: Shots) -> None:
        self.fixed = [_pair(shot) for shot in section.fixed]
        near = _Nearest(section.bank, section.nearest) if section.nearest else None
        self.nearest = lru_cache(maxsize=1024)(near) if near else None  # the samples of a prompt follow each other

    def __call__(self, text: str) -> list[Pair]:
        """Return the examples for the prompt `text`: the fixed ones, then the similar ones, the most similar last."""
        return [*self.fixed, *(self.nearest(text) if self.nearest else [])]


class _Nearest:
    """The most similar examples (Liu et al., 2022, section 3), compared by n-grams of lower-case words and positions of numbers.

    Capitalised words and digits are left out: they differ between two requests of the same kind.
    """

    def __init__(self, bank: Sequence[Shot], count: int) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer  # four seconds of import, only where it is used

        self.pairs, self.count = [_pair(shot) for shot in bank], count
        self.vectorizer = TfidfVectorizer(
            lowercase=False,
            preprocessor=_mask_numbers,
            token_pattern=r"\b[a-z]+\b|0|\?",
            ngram_range=(1, 3),
            min_df=min(3, len(bank)),
            use_idf=False,
            sublinear_tf=True,
        )
        self.matrix = self.vectorizer.fit_transform([prompt for prompt, _ in self.pairs])

    def __call__(self, text: str) -> list[Pair]:
        similarity = (self.matrix @ self.vectorizer.transform([text]).T).toarray().ravel()
        order = np.argsort(-similarity, kind="stable")[: self.count]
        return [self.pairs[index] for index in order[::-1]]


def _mask_numbers(text: str) -> str:
    return re.sub(r"\b[A-Z]?\d[\w.-]*", "0", text)


def _pair(shot: Shot) -> Pair:
    return shot.input, shot.output
