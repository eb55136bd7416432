"""What each teacher was paid, and for how many answers of use: sums over the rows of `candidates` and of `picked`."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.budget import Price

COLUMNS = ["teacher", "pool", "finish_reason", "tokens_in", "tokens_out", "seconds"]
ACCEPTED = ("train", "refusal")
FREE = ("budget_exhausted", "unrouted", "too_long")
"""Endings of answers that no engine was asked for."""


class Account(NamedTuple):
    """Of one teacher."""

    answers: int = 0  # that were paid for
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0  # of its engines
    accepted: int = 0  # answers in one of ACCEPTED
    budget_exhausted: int = 0  # answers that were not asked for, as the budget was spent

    def plus(self, other: "Account") -> "Account":
        """Return both together."""
        return Account._make(mine + theirs for mine, theirs in zip(self, other, strict=True))


def accounts(pieces: Iterable[pa.Table]) -> dict[str, Account]:
    """Return teacher -> sums over the CANDIDATE rows of `pieces`, which need only COLUMNS; rows by nobody are left out."""
    found: dict[str, Account] = {}
    for piece in pieces:
        for teacher in filter(None, pc.unique(piece["teacher"]).to_pylist()):
            account = _account(piece.filter(pc.equal(piece["teacher"], teacher)))
            found[teacher] = account.plus(found.get(teacher, Account()))
    return dict(sorted(found.items()))


def _account(rows: pa.Table) -> Account:
    paid = rows.filter(pc.invert(pc.is_in(rows["finish_reason"], pa.array(FREE))))
    sums = [pc.sum(paid[name]).as_py() or 0 for name in ("tokens_in", "tokens_out", "seconds")]
    accepted, budget_exhausted = pc.is_in(rows["pool"], pa.array(ACCEPTED)), pc.equal(rows["finish_reason"], "budget_exhausted")
    return Account(paid.num_rows, *sums, *(pc.sum(mask).as_py() or 0 for mask in (accepted, budget_exhausted)))


def picked(pieces: Iterable[pa.Table]) -> dict[str, int]:
    """Return teacher -> answers that became examples, from the columns `teacher` and `dropped_by` of PICKED rows."""
    found: dict[str, int] = {}
    for piece in pieces:
        kept = piece.filter(pc.equal(piece["dropped_by"], ""))
        for count in pc.value_counts(kept["teacher"].combine_chunks()).to_pylist():
            found[count["values"]] = found.get(count["values"], 0) + count["counts"]
    return dict(sorted(found.items()))


def costs(candidates: Mapping[str, Any], dataset: Mapping[str, Any], price: Price) -> list[dict[str, Any]]:
    """Return one entry a teacher, from the facts of both jobs: what it was paid, for what, and what that makes an accepted answer.

    `money` is the tokens at the teacher's price and, for an engine of our own, its seconds at the machine's. What cannot be said
    is None: `picked` before there is a dataset, what an answer costs if none was accepted.
    """
    entries = []
    for teacher, fields in (candidates.get("teachers") or {}).items():
        account = Account(**{name: fields[name] for name in Account._fields})
        money = price.money(teacher, account.tokens_in, account.tokens_out, fields["machine_seconds"])
        tokens = account.tokens_in + account.tokens_out
        entries.append(
            {
                "teacher": teacher,
                "answers": account.answers,
                "tokens_in": account.tokens_in,
                "tokens_out": account.tokens_out,
                "money": round(money, 6),
                "accepted": account.accepted,
                "picked": dataset["picked"].get(teacher, 0) if "picked" in dataset else None,
                "budget_exhausted": account.budget_exhausted,
                "tokens_per_accepted": round(tokens / account.accepted, 1) if account.accepted else None,
                "money_per_accepted": round(money / account.accepted, 9) if account.accepted else None,
            }
        )
    return entries
