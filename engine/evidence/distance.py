"""Distance of a prompt to the nearest labelled one: cosine of TF-IDF vectors of character n-grams (scikit-learn)."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class LabelledPrompts:
    """The prompts of labelled items. They are few: a comparison with all of them is one sparse product."""

    def __init__(self, texts: Sequence[str], groups: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer  # seconds of import

        first = {text: group for text, group in sorted(zip(texts, groups, strict=True), reverse=True)}
        self.texts, self.groups = list(first), np.array(list(first.values()))
        self.vectorizer: Any = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5))
        self.vectors = self.vectorizer.fit_transform(self.texts)

    def distances(self, texts: Sequence[str], groups: Sequence[str] | None = None) -> list[float]:
        """Return the distance of each text to the nearest labelled prompt, 0 to 1; with `groups`, of another group than its own."""
        likeness = (self.vectorizer.transform(texts) @ self.vectors.T).toarray()
        if groups is not None:
            likeness[np.array(groups)[:, None] == self.groups[None, :]] = 0.0
        return [round(float(1 - np.clip(row.max(), 0, 1)), 6) for row in likeness]
