"""Questions to a judge's model, each paid once: the ledger knows them by every word that the model would read.

A changed rubric asks again, an unchanged one never does, under whatever name it goes; marks, comparisons and the audit's other
shapes of an answer are all the same to it.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

import pyarrow as pa

from engine.contract.judges import Rubric
from engine.inference.engine import Chat, Engine
from engine.inference.till import Account, Till
from engine.judges.grader_spec import GraderSpec
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
    budget_exhausted: bool = False  # not asked, as the budget was spent


class JudgeClient:
    """One model of a judge."""

    def __init__(self, bar: GraderSpec, rubric: Rubric) -> None:
        folder = bar.folders.get(rubric.name)
        account = Account(rubric.model, bar.pool, folder, bar.ledger, bar.markers, bar.purse, bar.cap)
        self.till: Till[Question] = Till(account, PAID, place=attrgetter("place"))

    def __call__(self, questions: Sequence[Question], *, payee: str, capped: bool = True) -> list[Reading]:
        """Return what the model says to each question. `payee` is noted in the purse; `capped`: the budget's end is obeyed."""
        keys = [content_id(self.till.identity, json.dumps(one.chat), *one.marks) for one in questions]
        alike: dict[tuple[str, ...], dict[str, Question]] = defaultdict(dict)
        for key, one in zip(keys, questions, strict=True):
            alike[one.marks][key] = one
        said: dict[str, list[float] | None] = {}
        with self.till.block(one.place for one in questions):
            for group in alike.values():
                said |= self.till(group, _choose, payee=payee, capped=capped)
        return [Reading(said.get(key), key not in said) for key in keys]


def _choose(engine: Engine, questions: Sequence[Question]) -> Sequence[list[float] | None]:
    return engine.choice_probs([one.chat for one in questions], questions[0].marks)
