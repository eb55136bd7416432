"""Token usage of all processes that share a budget, and whether its cap is reached, without a coordinator.

Each process writes one small file with what it has used so far; the sum of the files is the usage of all. Usage is noted before the
answers are recorded in the ledger: answers that a crash in between loses are paid for twice, and count twice.
"""

import json
import uuid
from collections.abc import Iterator
from typing import NamedTuple

from engine.storage.folder import Folder
from engine.storage.migrations import OLDER_FOLDERS

TEACHER_TOKENS, JUDGE_TOKENS = "token_usage/teachers", "token_usage/judges"
"""Folders in a run's ledger, one for each cap of the contract's section `budget`."""


class TokenUsage(NamedTuple):
    """Tokens that were paid for."""

    answers: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def tokens(self) -> int:
        """In and out together."""
        return self.tokens_in + self.tokens_out

    def plus(self, other: "TokenUsage") -> "TokenUsage":
        """Return the sum of both."""
        return TokenUsage._make(mine + theirs for mine, theirs in zip(self, other, strict=True))


class TokenBudget:
    """Tokens that the processes sharing `folder` may use; a cap of None is no cap."""

    def __init__(self, folder: Folder, cap: int | None) -> None:
        self.folder, self.cap = folder, cap
        self.name = f"{uuid.uuid4().hex}.json"
        self.used: dict[str, TokenUsage] = {}

    def is_exhausted(self) -> bool:
        """Return whether all processes together have used the cap. Reads one file a process; without a cap it reads nothing."""
        return self.cap is not None and tokens_in(self.folder) >= self.cap

    def add(self, payee: str, usage: TokenUsage) -> None:
        """Note durably what `payee` has used."""
        self.used[payee] = usage.plus(self.used.get(payee, TokenUsage()))
        self.folder.write(self.name, json.dumps(self.used).encode(), durable=True)


def usage_in(folder: Folder) -> dict[str, TokenUsage]:
    """Return payee -> usage, summed over all processes that have noted it in `folder` or in the folder's older place."""
    total: dict[str, TokenUsage] = {}
    for place in _with_older(folder):
        for name in place.files():
            if name.endswith(".json"):
                for payee, usage in json.loads(place.read(name)).items():
                    total[payee] = TokenUsage(*usage).plus(total.get(payee, TokenUsage()))
    return dict(sorted(total.items()))


def tokens_in(folder: Folder) -> int:
    """Return the tokens of all payees in `folder`, in and out together."""
    return sum(usage.tokens for usage in usage_in(folder).values())


def _with_older(folder: Folder) -> Iterator[Folder]:
    yield folder
    for name, older in OLDER_FOLDERS.items():
        if folder.url.endswith(f"/{name}"):
            yield Folder(folder.url.removesuffix(name) + older)
