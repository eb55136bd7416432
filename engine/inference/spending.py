"""Usage and cost of each teacher: sums over the rows of `candidates` and of `picked`."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.budget import Price
from engine.records.candidates import CandidatesMetrics, TeacherCost

COLUMNS = ["teacher", "pool", "finish_reason", "tokens_in", "tokens_out", "seconds"]
ACCEPTED = ("train", "refusal")
FREE = ("budget_exhausted", "unrouted", "too_long")
"""Finish reasons of answers that no engine was asked for."""


class TeacherTotals(NamedTuple):
    """Sums over the answers of one teacher; see `engine.records.candidates.TeacherSpending`."""

    answers: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    accepted: int = 0
    budget_exhausted: int = 0

    def plus(self, other: "TeacherTotals") -> "TeacherTotals":
        """Return the sum of both."""
        return TeacherTotals._make(mine + theirs for mine, theirs in zip(self, other, strict=True))


def teacher_totals(pieces: Iterable[pa.Table]) -> dict[str, TeacherTotals]:
    """Return teacher -> sums over the CANDIDATE rows of `pieces`, which need only COLUMNS. Rows without a teacher are left out."""
    totals: dict[str, TeacherTotals] = {}
    for piece in pieces:
        for teacher in filter(None, pc.unique(piece["teacher"]).to_pylist()):
            piece_totals = _totals(piece.filter(pc.equal(piece["teacher"], teacher)))
            totals[teacher] = piece_totals.plus(totals.get(teacher, TeacherTotals()))
    return dict(sorted(totals.items()))


def _totals(rows: pa.Table) -> TeacherTotals:
    paid = rows.filter(pc.invert(pc.is_in(rows["finish_reason"], pa.array(FREE))))
    sums = [pc.sum(paid[name]).as_py() or 0 for name in ("tokens_in", "tokens_out", "seconds")]
    accepted, budget_exhausted = pc.is_in(rows["pool"], pa.array(ACCEPTED)), pc.equal(rows["finish_reason"], "budget_exhausted")
    return TeacherTotals(paid.num_rows, *sums, *(pc.sum(mask).as_py() or 0 for mask in (accepted, budget_exhausted)))


def picked(pieces: Iterable[pa.Table]) -> dict[str, int]:
    """Return teacher -> answers that became examples, from the columns `teacher` and `dropped_by` of PICKED rows."""
    counts: dict[str, int] = {}
    for piece in pieces:
        kept = piece.filter(pc.equal(piece["dropped_by"], ""))
        for count in pc.value_counts(kept["teacher"].combine_chunks()).to_pylist():
            counts[count["values"]] = counts.get(count["values"], 0) + count["counts"]
    return dict(sorted(counts.items()))


def costs(candidates: Mapping[str, object], dataset: Mapping[str, object], price: Price) -> list[TeacherCost]:
    """Return the cost of each teacher, from the metrics of the jobs `candidates` and `dataset`."""
    kept = dataset.get("picked")
    entries = []
    for teacher, usage in CandidatesMetrics.model_validate(candidates).teachers.items():
        money = price.money(teacher, usage.tokens_in, usage.tokens_out, usage.machine_seconds)
        tokens = usage.tokens_in + usage.tokens_out
        cost = TeacherCost(
            teacher=teacher,
            **usage.model_dump(exclude={"seconds", "machine_seconds"}),
            money=round(money, 6),
            picked=kept.get(teacher, 0) if isinstance(kept, Mapping) else None,
            tokens_per_accepted=round(tokens / usage.accepted, 1) if usage.accepted else None,
            money_per_accepted=round(money / usage.accepted, 9) if usage.accepted else None,
        )
        entries.append(cost)
    return entries
