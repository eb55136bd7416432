"""Data derived from answers besides the examples of the best ones: preference pairs and contrastive examples."""

from typing import NamedTuple

from engine.contract.budget import REPAIR
from engine.curation import example_flow, pairs
from engine.curation.example_flow import ExampleSpec, KeptRows, RepairStage
from engine.curation.repair import RepairSpec
from engine.distributed.rows import Ref, Rows
from engine.inference.crash_isolation import MARKERS
from engine.records.dataset import PreferenceSummary
from engine.runs.job import JobContext
from engine.storage.shards import iterate
from jobs.steps.judging import model_client

LEDGER = "boundary"  # older name of contrastive examples: renaming the folder would lose replies that were paid for


class DerivedData(NamedTuple):
    """The derived data of a dataset."""

    contrastive: Rows | None = None  # EXAMPLE
    preferences: PreferenceSummary | None = None  # None if the contract orders no pairs


def make(context: JobContext, kept: KeptRows, index: Ref, spec: ExampleSpec) -> DerivedData:
    """Write the pairs that the contract orders, and return the contrastive examples, without those like texts of `index`."""
    section = spec.section
    if section.preferences is None and not section.contrastive:
        return DerivedData()
    answers = example_flow.answers_by_prompt(kept, index, spec).materialize()
    summary = None
    if section.preferences:
        folder = context.writer.folder / "preferences"
        table = context.writer.tables["preferences"] = example_flow.write_preferences(answers, folder, spec=spec).table
        summary = pairs.summary(iterate(folder, table, pairs.SUMMARY_COLUMNS))
    if not section.contrastive:
        return DerivedData(None, summary)
    return DerivedData(example_flow.contrastive_examples(answers, kept, spec, _repair(context, index)), summary)


def _repair(context: JobContext, index: Ref) -> RepairStage | None:
    """Return the stage that repairs failed answers; None if the contract orders none."""
    section = next((spec for spec in context.contract.curation.contrastive if spec.type == "rewrite"), None)
    if section is None:
        return None
    (context.ledger / MARKERS / LEDGER).remove()  # crashes of an earlier run do not count in this one
    client = model_client(context, section.model, LEDGER, payee=REPAIR)
    return RepairStage(RepairSpec(section, context.contract.specialist, client), index)
