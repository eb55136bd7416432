"""Worked examples for a prompt: some fixed, some chosen because they are asked like it."""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from engine.contract.teachers import Shot, Shots

Pair = tuple[str, str]
"""What was asked and what was said."""


class FewShotSelector:
    """Chooses the worked examples of each prompt. The fixed ones come first and stay in the engine's prefix cache."""

    def __init__(self, section: Shots) -> None:
        self.fixed = [_pair(shot) for shot in section.fixed]
        near = _Nearest(section.bank, section.nearest) if section.nearest else None
        self.near = lru_cache(maxsize=1024)(near) if near else None  # the samples of a prompt are asked for one after the other

    def __call__(self, text: str) -> list[Pair]:
        """Return the examples for the prompt `text`; the nearest stands last, next to the question."""
        return [*self.fixed, *(self.near(text) if self.near else [])]


class _Nearest:
    """Nearest by the frame of the request (Liu et al., 2022, section 3): words in lower case and places of numbers.

    Names, products and the digits themselves are what differs between two requests of one kind, so they are left out.
    """

    def __init__(self, bank: Sequence[Shot], count: int) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer  # four seconds of import, only where it is used

        self.pairs, self.count = [_pair(shot) for shot in bank], count
        self.frames = TfidfVectorizer(
            lowercase=False,
            preprocessor=_mask_numbers,
            token_pattern=r"\b[a-z]+\b|0|\?",
            ngram_range=(1, 3),
            min_df=min(3, len(bank)),
            use_idf=False,
            sublinear_tf=True,
        )
        self.matrix = self.frames.fit_transform([asked for asked, _ in self.pairs])

    def __call__(self, text: str) -> list[Pair]:
        closeness = (self.matrix @ self.frames.transform([text]).T).toarray().ravel()
        order = np.argsort(-closeness, kind="stable")[: self.count]
        return [self.pairs[index] for index in order[::-1]]


def _mask_numbers(text: str) -> str:
    return re.sub(r"\b[A-Z]?\d[\w.-]*", "0", text)


def _pair(shot: Shot) -> Pair:
    return shot.input, shot.output
