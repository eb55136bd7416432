"""Judged candidates in, a representative training set out; dropped rows stay in `picked` with the reason."""

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa

from engine.curation import example_flow, flow, index_flow
from engine.curation.answers import SCAN_ROWS, LabelledCandidates
from engine.distributed import in_process
from engine.errors import InputError
from engine.inference import spending
from engine.records.dataset import DatasetMetrics, SplitShares
from engine.rows import DROPPED_BY
from engine.runs.job import JobContext
from engine.storage.artifact import RowCounts
from engine.storage.shards import iterate
from jobs.steps import derived, evaluation_lists, labels
from jobs.steps.models import found

BYTES_PER_ROW = 20_000  # of a candidate and all that is computed from it, while the job runs


def run(context: JobContext) -> RowCounts:
    """Keep the best answers, drop duplicates and contaminated ones, pick by the contract, and write examples and derived data."""
    with in_process.flows(is_in_process(context), context.profile.cpu):
        return _run(context)


def _run(context: JobContext) -> RowCounts:
    section, pool = context.contract.curation, context.profile.cpu
    paths = [source.path for source in (*context.contract.prompts.sources, context.contract.prompts.holdout)]
    candidates, prompts = context.artifact("candidates"), context.artifact("prompts")
    labelled = labels.table(context)
    answers = LabelledCandidates(candidates, in_process.put(labelled) if labelled.num_rows else None)
    encoder = None
    if section.semantic:
        encoder = flow.Encoder(found(context, section.semantic.model), context.profile.embedder)
    protected = index_flow.protected_texts(prompts, evaluation_lists.rows(context), pool)
    index = index_flow.index_of(protected, prompts, section, pool, paths)
    entries = flow.entries(answers, index, section, pool, encoder=encoder)
    settled = flow.resolve_text_duplicates(entries, section, pool)
    del entries  # signatures are most of what is held for each row
    blocks, rows = [], 0
    if encoder:
        embedded = flow.embed(answers, settled, pool, section=section, encoder=encoder)
        context.writer.tables["embeddings"] = flow.write_embeddings(embedded, context.writer.folder / "embeddings", pool).table
        protected = flow.embed_protected(protected, encoder) if section.decontaminate.similarity else protected
        blocks, rows = embedded.to_arrow_refs(), embedded.count()
        del embedded  # nor is this read again, and it refers to its blocks
    sharded = flow.shards_of(blocks, rows, protected, section, pool)
    del protected
    decisions = flow.decide_all(answers, settled, sharded, section, pool)
    del settled, sharded
    picked = flow.write_picked(answers, decisions.dispositions, pool, context.writer.folder / "picked")
    num_picked = picked.labels.get("", 0)
    if not num_picked:
        raise InputError(
            f"dataset: none of {picked.table.rows} candidates is left: {picked.labels}. Look at the pools and reasons in "
            f"{candidates.folder}, then change the teacher's prompt, judges.accept or curation.pick.pools."
        )
    kept = example_flow.KeptRows(answers, decisions.dispositions, num_picked, decisions.metrics.weights)
    spec = example_flow.ExampleSpec(context.contract.specialist, section, pool)
    more = derived.make(context, kept, index, spec)
    examples = example_flow.write_examples(
        kept, context.writer.folder / "examples", spec=spec, index=index, contrastive=more.contrastive
    )
    context.writer.tables |= {"picked": picked.table, "examples": examples.table}
    lists = {"holdout": prompts.table("holdout").digest, "files": evaluation_lists.of_job(context)}
    validation = round(examples.labels.get("validation", 0) / examples.table.rows, 4)
    context.writer.metrics = DatasetMetrics(
        clusters=decisions.metrics.clusters,
        coverage=decisions.metrics.coverage,
        selection=decisions.metrics.selection,
        decontamination=decisions.metrics.decontamination.model_copy(update=lists),
        weights=decisions.metrics.weights,
        picked=spending.picked(iterate(context.writer.folder / "picked", picked.table, ["teacher", "dropped_by"])),
        splits=examples.labels,
        kinds=_kinds(iterate(context.writer.folder / "examples", examples.table, ["kind"])),
        preferences=more.preferences,
        labels=labels.counts(labelled),
        wanted=SplitShares(clusters=section.pick.clusters, validation=section.pick.validation),
        found=SplitShares(clusters=len(decisions.metrics.clusters), validation=validation),
    )
    by_reason = {reason: picked.labels.get(reason, 0) for reason in DROPPED_BY if reason}
    rows_in = candidates.table("candidates").rows + labels.counts(labelled)["corrected"]
    return RowCounts(rows_in, {"picked": num_picked} | by_reason)


def is_in_process(context: JobContext) -> bool:
    """Return whether one block holds all candidates: then it is done here. A model that repairs answers, or a GPU, is on Ray."""
    section = context.contract.curation
    if any(spec.type == "rewrite" for spec in section.contrastive):
        return False
    rows = context.artifact("candidates").table("candidates").rows
    gpus = section.semantic is not None and context.profile.embedder.gpus > 0
    return in_process.is_in_process(context.profile, rows * BYTES_PER_ROW, gpus=gpus, small=rows <= SCAN_ROWS)


def _kinds(pieces: Iterable[pa.Table]) -> dict[str, int]:
    kinds = Counter(kind for piece in pieces for kind in piece["kind"].to_pylist())
    return dict(sorted(kinds.items()))
