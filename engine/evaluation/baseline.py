"""Baselines that a student must beat: hand-written rules, and the answer of the nearest training example.

A baseline has the interface of a model, so both are evaluated by the same code.
"""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from engine.contract.evaluation import Baseline, Nearest, Rules
from engine.contract.models import Sampling
from engine.inference.engine import Chat, Completion, Request


class TrainingExamples(NamedTuple):
    """Training examples that a baseline may read: `texts` and `answers` have equal length."""

    texts: Sequence[str] = ()
    answers: Sequence[str] = ()


class RuleExtractor:
    """Fills each field with the first match of its patterns; a field without a match is null."""

    def __init__(self, section: Rules) -> None:
        self.fields = {field: [re.compile(pattern) for pattern in patterns] for field, patterns in section.fields.items()}

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Return one completion per request, in order; `sampling` has no effect."""
        return [_completion(self.extract(user_text(request.chat))) for request in requests]

    def extract(self, text: str) -> str:
        """Return the fields found in `text` as compact JSON."""
        form = {field: _first_match(patterns, text) for field, patterns in self.fields.items()}
        return json.dumps(form, separators=(",", ":"), ensure_ascii=False)


class NearestExample:
    """Returns the answer of the training example with the highest TF-IDF cosine, the first of equals."""

    def __init__(self, examples: TrainingExamples) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer  # imported here: it takes two seconds

        self.answers = list(examples.answers)
        self.vectorizer = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b")
        self.matrix = self.vectorizer.fit_transform(examples.texts) if self.answers else None

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Return one completion per request, in order; `sampling` has no effect."""
        if self.matrix is None:
            return [Completion("", "error", 0, 0, error="no training example") for _ in requests]
        # Rows have unit length, so the product is the cosine.
        cosines = self.vectorizer.transform([user_text(request.chat) for request in requests]) @ self.matrix.T
        return [_completion(self.answers[int(row.toarray().argmax())]) for row in cosines]


def build_baseline(section: Baseline, examples: TrainingExamples) -> RuleExtractor | NearestExample:
    """Return the baseline of `section`; `NearestExample` is fitted to `examples`."""
    return NearestExample(examples) if isinstance(section, Nearest) else RuleExtractor(section)


def user_text(chat: Chat) -> str:
    """Return the user's turns of `chat`, joined by a blank line."""
    return "\n\n".join(turn["content"] for turn in chat if turn["role"] == "user")


def _first_match(patterns: Sequence[re.Pattern[str]], text: str) -> str | None:
    for pattern in patterns:
        if match := pattern.search(text):
            return match[1] if pattern.groups else match[0]
    return None


def _completion(text: str) -> Completion:
    return Completion(text, "stop", 0, 0)
