"""What is made of answers besides examples of the best ones: preference pairs, and boundary material."""

from typing import NamedTuple

from ray import ObjectRef
from ray.data import Dataset

from engine.curation import flow, pairs
from engine.curation.flow import Kept, Mend, Order
from engine.curation.repair import Desk
from engine.inference.crash_isolation import MARKS
from engine.inference.token_budget import TEACHERS
from engine.runs.job import Bench
from engine.storage.shards import iterate
from jobs.steps.judging import weights


class Lessons(NamedTuple):
    """What was made."""

    boundary: Dataset | None = None  # EXAMPLE
    told: dict[str, object] | None = None
    """What the report says of the pairs, as pairs.told; None if none were ordered."""


def make(bench: Bench, kept: Kept, known: Dataset, order: Order) -> Lessons:
    """Write the pairs that the contract orders, and return the boundary examples; nothing of what resembles `known`."""
    section = order.section
    if section.preferences is None and not section.boundary:
        return Lessons()
    index = flow.index_of(known, section)
    answers = flow.asked(kept, index, order).materialize()
    told = None
    if section.preferences:
        folder = bench.draft.folder / "preferences"
        table = bench.draft.tables["preferences"] = flow.write_preferences(answers, folder, order=order).table
        told = pairs.told(iterate(folder, table, pairs.TOLD))
    if not section.boundary:
        return Lessons(None, told)
    return Lessons(flow.boundary_examples(answers, kept, order, _mend(bench, index)), told)


def _mend(bench: Bench, index: ObjectRef) -> Mend | None:
    """Who mends failed answers; None if the contract asks nobody to."""
    kind = next((kind for kind in bench.contract.curation.boundary if kind.type == "rewrite"), None)
    if kind is None:
        return None
    (bench.ledger / MARKS / "boundary").remove()  # who died in an earlier run says nothing about this one
    desk = Desk(
        section=kind,
        specialist=bench.contract.specialist,
        pool=bench.profile.teacher,
        folder=weights(bench, kind.model),
        ledger=bench.paid / "boundary",
        marks=bench.ledger / MARKS / "boundary",
        purse=bench.ledger / TEACHERS,
        cap=bench.contract.budget.teacher_tokens,
    )
    return Mend(desk, index)
