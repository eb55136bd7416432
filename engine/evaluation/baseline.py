"""What a student must beat to be worth its training: rules written by hand, and the answer of the nearest training example.

Both answer like a model, so that they are examined in the same way.
"""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from engine.contract.evaluation import Baseline, Nearest, Rules
from engine.contract.models import Sampling
from engine.inference import Chat, Completion
from engine.inference.engine import Request


class Known(NamedTuple):
    """Training examples that a baseline may look at."""

    texts: Sequence[str] = ()
    answers: Sequence[str] = ()


class RuleExtractor:
    """Fills each field with what its first matching pattern finds; a field that none matches is null."""

    def __init__(self, section: Rules, known: Known) -> None:
        self.fields = {field: [re.compile(pattern) for pattern in patterns] for field, patterns in section.fields.items()}

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer each request, in order."""
        return [_said(self.extract(text_of(request.chat))) for request in requests]

    def extract(self, text: str) -> str:
        """Return the form that the rules read in `text`, as compact JSON."""
        form = {field: _first_match(patterns, text) for field, patterns in self.fields.items()}
        return json.dumps(form, separators=(",", ":"), ensure_ascii=False)


class NearestExample:
    """Copies the answer of the training example whose words are nearest: TF-IDF, cosine; of equals, the first."""

    def __init__(self, section: Nearest, known: Known) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer  # two seconds of import, only where it is used

        self.answers = list(known.answers)
        self.words = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b")
        self.examples = self.words.fit_transform(known.texts) if self.answers else None

    def complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer each request, in order."""
        if self.examples is None:
            return [Completion("", "error", 0, 0, error="no training example") for _ in requests]
        # The rows are of unit length, so their product is the cosine.
        nearness = self.words.transform([text_of(request.chat) for request in requests]) @ self.examples.T
        return [_said(self.answers[int(row.toarray().argmax())]) for row in nearness]


BASELINES: dict[str, type[RuleExtractor] | type[NearestExample]] = {"rules": RuleExtractor, "nearest": NearestExample}


def build_baseline(section: Baseline, known: Known) -> RuleExtractor | NearestExample:
    """Return the baseline that `section` asks for, fitted to what is `known`."""
    return BASELINES[section.type](section, known)  # type: ignore[arg-type]


def text_of(chat: Chat) -> str:
    """Return what the user says in `chat`, turns joined by a blank line."""
    return "\n\n".join(turn["content"] for turn in chat if turn["role"] == "user")


def _first_match(patterns: Sequence[re.Pattern[str]], text: str) -> str | None:
    for pattern in patterns:
        if found := pattern.search(text):
            return found[1] if pattern.groups else found[0]
    return None


def _said(text: str) -> Completion:
    return Completion(text, "stop", 0, 0)
