"""Numbers that a model is paid for: each is asked once, kept in the ledger, and not asked when the budget is spent."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.contract.models import Model
from engine.contract.profile import Pool
from engine.lineage.ledger import Ledger
from engine.lineage.purse import Purse, Spent
from engine.models.base import Engine, build_model
from engine.models.identity import identity
from engine.models.trials import Trials
from engine.shards import Folder

PAID = pa.schema([("prompt_id", pa.string()), ("number_id", pa.string()), ("value", pa.float64())])
Row = Mapping[str, Any]
Ask = Callable[[Engine, Sequence[Row]], Sequence[float | None]]
"""Returns one number a row; None where the model cannot be read, which is asked again in a later run."""


@dataclass(frozen=True)
class Account:
    """Who is asked, and where what it says and is paid is kept; plain picklable values."""

    model: Model
    pool: Pool
    folder: Path | None
    """The model's weights."""
    ledger: Folder
    """What was paid for, perhaps by other runs too."""
    marks: Folder
    """Who is at work, in this run."""
    purse: Folder
    payee: str
    """By what name the purse knows what is paid."""
    cap: int | None = None
    """Tokens that all who spend from the purse may be paid."""


class Till:
    """Asks one model; loads it at the first number that is not in the ledger."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.identity = identity(account.model, account.folder)
        self.ledger = Ledger(account.ledger, PAID, key="number_id", place="prompt_id")
        self.trials = Trials(account.marks, hang_seconds=account.pool.hang_seconds, at_once=account.pool.max_num_seqs)
        self.purse = Purse(account.purse, account.cap)
        self.engine: Engine | None = None

    def block(self, prompt_ids: Iterable[str]) -> AbstractContextManager[None]:
        """Hold what is known of some prompts while they are worked on; `numbers` works within."""
        return self.ledger.block(prompt_ids)

    def numbers(self, rows: Mapping[str, Row], ask: Ask) -> dict[str, float | None]:
        """Return key -> number for `rows` by key; each row says its `prompt_id`.

        A key is None if the row killed the model; one that is unreadable or not paid for is left out.
        """
        known = self.ledger.find(rows)
        found = dict(zip(known["number_id"].to_pylist(), known["value"].to_pylist(), strict=True))
        open_ = [key for key in rows if key not in found]
        for start in range(0, len(open_), self.account.pool.batch):
            if self.purse.is_empty():
                break
            found |= self._pay(rows, open_[start : start + self.account.pool.batch], ask)
        return found

    def _pay(self, rows: Mapping[str, Row], keys: list[str], ask: Ask) -> dict[str, float | None]:
        paid: dict[str, float | None] = {}
        engine = self._ready()  # before the first batch: what dies here is no fault of a row

        def attempt(batch: Sequence[int]) -> None:
            asked = [keys[index] for index in batch]
            engine.forget()
            before = engine.tokens_read
            values = ask(engine, [rows[key] for key in asked])
            self.purse.pay(self.account.payee, Spent(len(asked), engine.tokens_read - before, len(asked)))
            paid.update(self._record(rows, {key: value for key, value in zip(asked, values, strict=True) if value is not None}))

        self.trials(keys, attempt, lambda index: paid.update(self._record(rows, {keys[index]: None})))
        return paid

    def _record(self, rows: Mapping[str, Row], values: Mapping[str, float | None]) -> Mapping[str, float | None]:
        prompts = [rows[key]["prompt_id"] for key in values]
        self.ledger.record(pa.table([prompts, list(values), list(values.values())], schema=PAID))
        return values

    def _ready(self) -> Engine:
        if self.engine is None:
            account = self.account
            build = partial(build_model, account.model, account.pool, folder=account.folder)
            self.engine = self.trials.load(build, account.model.path)
        return self.engine
