"""What is made of answers besides examples of the best ones: preference pairs, and boundary material."""

from typing import NamedTuple

from ray import ObjectRef
from ray.data import Dataset

from engine.curation import flow, pairs
from engine.curation.flow import Kept, Order, RepairPool
from engine.curation.repair import PAYEE, RepairSpec
from engine.inference.crash_isolation import MARKERS
from engine.runs.job import JobContext
from engine.storage.shards import iterate
from jobs.steps.judging import teacher_client


class DerivedData(NamedTuple):
    """What was made."""

    boundary: Dataset | None = None  # EXAMPLE
    told: dict[str, object] | None = None
    """What the report says of the pairs, as pairs.told; None if none were ordered."""


def make(context: JobContext, kept: Kept, known: Dataset, order: Order) -> DerivedData:
    """Write the pairs that the contract orders, and return the boundary examples; nothing of what resembles `known`."""
    section = order.section
    if section.preferences is None and not section.boundary:
        return DerivedData()
    index = flow.index_of(known, section)
    answers = flow.asked(kept, index, order).materialize()
    told = None
    if section.preferences:
        folder = context.writer.folder / "preferences"
        table = context.writer.tables["preferences"] = flow.write_preferences(answers, folder, order=order).table
        told = pairs.told(iterate(folder, table, pairs.TOLD))
    if not section.boundary:
        return DerivedData(None, told)
    return DerivedData(flow.boundary_examples(answers, kept, order, _mend(context, index)), told)


def _mend(context: JobContext, index: ObjectRef) -> RepairPool | None:
    """Who mends failed answers; None if the contract asks nobody to."""
    kind = next((kind for kind in context.contract.curation.boundary if kind.type == "rewrite"), None)
    if kind is None:
        return None
    (context.ledger / MARKERS / "boundary").remove()  # who died in an earlier run says nothing about this one
    client = teacher_client(context, kind.model, "boundary", payee=PAYEE)
    return RepairPool(RepairSpec(kind, context.contract.specialist, client), index)
