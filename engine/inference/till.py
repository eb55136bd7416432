"""What a model is paid to say: each question is asked once, kept in the ledger, and not asked when the budget is spent."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa

from engine.contract.models import Model
from engine.contract.profile import Pool
from engine.inference.crash_isolation import CrashIsolator
from engine.inference.engine import Engine, build_model
from engine.inference.identity import identity
from engine.inference.ledger import Ledger
from engine.inference.token_budget import TokenBudget, TokenUsage
from engine.storage.shards import Folder

T = TypeVar("T")
Ask = Callable[[Engine, Sequence[T]], Sequence[Any]]
"""Returns what the model says to each; None where it cannot be read."""


@dataclass(frozen=True)
class Account:
    """Who is asked, and where what it says and is paid is kept; plain picklable values."""

    model: Model
    pool: Pool
    folder: Path | None
    """The model's weights."""
    ledger: Folder
    """What was paid for, perhaps by other runs too."""
    markers: Folder
    """Who is at work, in this run."""
    purse: Folder
    cap: int | None = None
    """Tokens that all who spend from the purse may be paid."""


class Till(Generic[T]):
    """Asks one model; loads it at the first question that nobody has paid for yet."""

    def __init__(self, account: Account, paid: pa.Schema, *, place: Callable[[T], str]) -> None:
        """`paid` are the ledger's columns, the prompt's id, the question's key and what is said; `place` tells a prompt's id."""
        self.account, self.paid, self.place = account, paid, place
        self.identity = identity(account.model, account.folder)
        self.ledger = Ledger(account.ledger, paid, key=paid.names[1], place=paid.names[0])
        self.trials = CrashIsolator(account.markers, hang_seconds=account.pool.hang_seconds, at_once=account.pool.max_num_seqs)
        self.purse = TokenBudget(account.purse, account.cap)
        self.engine: Engine | None = None

    def block(self, prompt_ids: Iterable[str]) -> AbstractContextManager[None]:
        """Hold what is known of some prompts while they are worked on; a till is called within."""
        return self.ledger.block(prompt_ids)

    def __call__(self, questions: Mapping[str, T], ask: Ask[T], *, payee: str, capped: bool = True) -> dict[str, Any]:
        """Return key -> what is said to each question by key; one that is not paid for is left out.

        None: the model cannot be read on it, or it killed the model. `payee` is noted in the purse; `capped`: the budget's end is
        obeyed.
        """
        said = self._told(self.ledger.find(questions))
        for batch in even([key for key in questions if key not in said], self.account.pool.batch):
            if capped and self.purse.is_empty():
                break
            said |= self._pay({key: questions[key] for key in batch}, ask, payee)
        return said

    def _pay(self, questions: Mapping[str, T], ask: Ask[T], payee: str) -> dict[str, Any]:
        keys, said = list(questions), dict[str, Any]()
        engine = self._ready()  # before the first batch: what dies here is no fault of a question

        def attempt(batch: Sequence[int]) -> None:
            asked = {keys[index]: questions[keys[index]] for index in batch}
            engine.reset_prefix_cache()
            before = engine.tokens_read
            values = ask(engine, list(asked.values()))
            self.purse.pay(payee, TokenUsage(len(asked), engine.tokens_read - before, len(asked)))
            said.update(self._record(asked, values))

        self.trials(keys, attempt, lambda index: said.update(self._record({keys[index]: questions[keys[index]]}, [None])))
        return said

    def _record(self, questions: Mapping[str, T], values: Sequence[Any]) -> dict[str, Any]:
        """Return what was said as the ledger keeps it, once it is there. None: this must not be shown to the model again."""
        paid = pa.table([[self.place(one) for one in questions.values()], list(questions), list(values)], schema=self.paid)
        self.ledger.record(paid)
        return self._told(paid)

    def _told(self, paid: pa.Table) -> dict[str, Any]:
        _, key, value = self.paid.names
        return dict(zip(paid[key].to_pylist(), paid[value].to_pylist(), strict=True))

    def _ready(self) -> Engine:
        if self.engine is None:
            account = self.account
            build = partial(build_model, account.model, account.pool, folder=account.folder)
            self.engine = self.trials.load(build, account.model.path)
        return self.engine


def even(keys: Sequence[str], most: int) -> list[Sequence[str]]:
    """Return `keys` in as few batches as may be, none much smaller than another: a model that is half idle costs as much."""
    count = -(-len(keys) // most)
    cuts = [len(keys) * number // count for number in range(count + 1)] if keys else []
    return [keys[start:stop] for start, stop in pairwise(cuts)]
