"""What models were paid, and whether the cap is reached: counted by many processes on many machines, with no one in charge.

Each process keeps one small file, which it alone writes, with what it has paid so far; the sum of the files is what all have paid.
A payment is noted before the answers are recorded in the ledger: after a crash in between they are paid twice, and count twice.
"""

import json
import uuid
from typing import NamedTuple

from engine.storage.shards import Folder

TEACHERS, JUDGES = "purse/teachers", "purse/judges"  # folders in a run's ledger


class TokenUsage(NamedTuple):
    """What somebody was paid."""

    answers: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def tokens(self) -> int:
        """In and out together."""
        return self.tokens_in + self.tokens_out

    def plus(self, other: "TokenUsage") -> "TokenUsage":
        """Return both together."""
        return TokenUsage._make(mine + theirs for mine, theirs in zip(self, other, strict=True))


class TokenBudget:
    """What may be spent, in tokens; None = without end. `folder` is that of all who spend from it."""

    def __init__(self, folder: Folder, cap: int | None) -> None:
        self.folder, self.cap = folder, cap
        self.name = f"{uuid.uuid4().hex}.json"
        self.paid: dict[str, TokenUsage] = {}

    def is_empty(self) -> bool:
        """Return whether all processes together have spent the cap. Reads a file a process, or nothing without a cap."""
        return self.cap is not None and sum(spent.tokens for spent in spent_in(self.folder).values()) >= self.cap

    def pay(self, payee: str, spent: TokenUsage) -> None:
        """Note durably that `payee` was paid."""
        self.paid[payee] = spent.plus(self.paid.get(payee, TokenUsage()))
        self.folder.write(self.name, json.dumps(self.paid).encode())


def spent_in(folder: Folder) -> dict[str, TokenUsage]:
    """Return payee -> what it was paid by all processes that have noted it in `folder`."""
    total: dict[str, TokenUsage] = {}
    for name in folder.files():
        if name.endswith(".json"):
            for payee, spent in json.loads(folder.read(name)).items():
                total[payee] = TokenUsage(*spent).plus(total.get(payee, TokenUsage()))
    return dict(sorted(total.items()))
