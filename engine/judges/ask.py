"""Questions to a judge's model, each paid once: the ledger knows them by every word that the model would read.

A changed rubric asks again, an unchanged one never does, under whatever name it goes; marks, comparisons and the audit's other
shapes of an answer are all the same to it.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import pyarrow as pa

from engine.contract.judges import Rubric
from engine.judges.bar import Bar
from engine.lineage.ledger import Ledger
from engine.lineage.purse import Purse, Spent
from engine.models.base import Chat, Engine, build_model
from engine.models.identity import identity
from engine.models.trials import Trials
from engine.rows import content_id

PAID = pa.schema([("prompt_id", pa.string()), ("question_id", pa.string()), ("shares", pa.list_(pa.float32()))])


class Question(NamedTuple):
    """What a judge is asked once."""

    place: str  # the prompt's id, by which the ledger keeps it
    chat: Chat
    marks: tuple[str, ...]  # the answers that are open to it


class Reading(NamedTuple):
    """What it said."""

    shares: list[float] | None  # probability of each mark; None if it cannot be read, or was not asked
    is_unpaid: bool = False  # not asked, as the budget was spent


class Asker:
    """One model of a judge; loads at the first question that nobody has paid for yet."""

    def __init__(self, bar: Bar, rubric: Rubric) -> None:
        self.bar, self.model, self.folder = bar, rubric.model, bar.folders.get(rubric.name)
        self.identity = identity(self.model, self.folder)
        self.ledger = Ledger(bar.ledger, PAID, key="question_id", place="prompt_id")
        self.trials = Trials(bar.marks, hang_seconds=bar.pool.hang_seconds, at_once=bar.pool.max_num_seqs)
        self.purse = Purse(bar.purse, bar.cap)
        self.engine: Engine | None = None

    def __call__(self, questions: Sequence[Question], *, payee: str, capped: bool = True) -> list[Reading]:
        """Return what the model says to each question. `payee` is noted in the purse; `capped`: the budget's end is obeyed."""
        keys = [content_id(self.identity, json.dumps(one.chat), *one.marks) for one in questions]
        with self.ledger.block(one.place for one in questions):
            found = self.ledger.find(keys)
            known = dict(zip(found["question_id"].to_pylist(), found["shares"].to_pylist(), strict=True))
            open_ = {key: one for key, one in zip(keys, questions, strict=True) if key not in known}
            unpaid: set[str] = set()
            for batch in _batches(open_, self.bar.pool.batch):
                if capped and self.purse.is_empty():
                    unpaid.update(batch)
                else:
                    known |= self._pay(open_, batch, payee)
        return [Reading(known.get(key), key in unpaid) for key in keys]

    def _pay(self, questions: Mapping[str, Question], keys: list[str], payee: str) -> dict[str, list[float] | None]:
        """Return what is said to one batch; None for what it cannot be read on and what it must not be asked again."""
        said: dict[str, list[float] | None] = {}
        self._ready()  # before the first batch: what dies here is no fault of a question

        def ask(batch: Sequence[int]) -> None:
            asked = {keys[index]: questions[keys[index]] for index in batch}
            said.update(self._record(asked, self._choose(list(asked.values()), payee)))

        self.trials(keys, ask, lambda index: said.update(self._record({keys[index]: questions[keys[index]]}, [None])))
        return said

    def _choose(self, questions: Sequence[Question], payee: str) -> list[list[float] | None]:
        engine = self._ready()
        engine.forget()
        before = engine.tokens_read
        shares = engine.choose([one.chat for one in questions], questions[0].marks)
        self.purse.pay(payee, Spent(len(questions), engine.tokens_read - before, len(questions)))
        return shares

    def _record(self, questions: Mapping[str, Question], shares: Sequence[Sequence[float] | None]) -> dict[str, list[float] | None]:
        """Return what was said as the ledger keeps it, once it is there. None: this must not be shown to the model again."""
        paid = pa.table([[one.place for one in questions.values()], list(questions), list(shares)], schema=PAID)
        self.ledger.record(paid)
        return dict(zip(paid["question_id"].to_pylist(), paid["shares"].to_pylist(), strict=True))

    def _ready(self) -> Engine:
        if self.engine is None:
            build = partial(build_model, self.model, self.bar.pool, folder=self.folder)
            self.engine = self.trials.load(build, self.model.path)
        return self.engine


def _batches(questions: Mapping[str, Question], most: int) -> list[list[str]]:
    """Keys by batch, in order; the questions of a batch have the same marks. None is much smaller than another."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for key, one in questions.items():
        alike.setdefault(one.marks, []).append(key)
    batches = []
    for keys in alike.values():
        count = -(-len(keys) // most)
        cuts = [len(keys) * number // count for number in range(count + 1)]
        batches += [keys[start:stop] for start, stop in pairwise(cuts)]
    return batches
