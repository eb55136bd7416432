"""Judged candidates in, a representative training set out; what is dropped stays, with the reason and what it lost to."""

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
import ray

from engine.curation import flow
from engine.errors import InputError
from engine.inference import spending
from engine.inference.locate import locate
from engine.rows import DROPPED_BY
from engine.runs.job import JobContext
from engine.storage.artifact import RowCounts
from engine.storage.shards import iterate
from jobs.steps import derived, evaluation_lists, labels


def run(context: JobContext) -> RowCounts:
    """One answer a prompt; copies by text and by meaning lose to one keeper; clusters are balanced; what is left is taught."""
    section, pool = context.contract.curation, context.profile.cpu
    candidates, prompts = context.artifact("candidates"), context.artifact("prompts")
    labelled = labels.table(context)
    judged = flow.Judged(candidates, ray.put(labelled) if labelled.num_rows else None)
    encoder = None
    if section.semantic:
        encoder = flow.Encoder(locate(section.semantic.model, root=context.root, home=context.models), context.profile.embedder)
    known = flow.listed(prompts, evaluation_lists.rows(context), pool)
    entries = flow.enter_rows(judged, known, section, pool, encoder=encoder)
    lost = flow.settle(entries, section, pool)
    embedded = None
    if encoder:
        embedded = flow.embed(judged, lost, pool, section=section, encoder=encoder)
        context.writer.tables["embeddings"] = flow.write_embeddings(embedded, context.writer.folder / "embeddings", pool).table
        known = flow.embed_listed(known, encoder) if section.decontaminate.similarity else known
    arranged = flow.settle_meaning(entries, lost, embedded, known, section)
    picked = flow.write_picked(judged, arranged.decisions, pool, context.writer.folder / "picked")
    num_picked = picked.labels.get("", 0)
    if not num_picked:
        raise InputError(
            f"dataset: none of {picked.table.rows} candidates is left: {picked.labels}. Look at the pools and reasons in "
            f"{candidates.folder}, then mend the teacher's prompt, judges.accept or curation.pick.pools."
        )
    kept = flow.Kept(judged, arranged.decisions, num_picked, arranged.metrics["weights"])
    order = flow.Order(context.contract.specialist, section, pool)
    made = derived.make(context, kept, known, order)
    examples = flow.write_examples(kept, context.writer.folder / "examples", order=order, beside=made.boundary)
    context.writer.tables |= {"picked": picked.table, "examples": examples.table}
    context.writer.metrics = {
        **arranged.metrics,
        "decontamination": arranged.metrics["decontamination"]
        | {"holdout": prompts.table("holdout").digest, "files": evaluation_lists.of_job(context)},
        "picked": spending.picked(iterate(context.writer.folder / "picked", picked.table, ["teacher", "dropped_by"])),
        "splits": examples.labels,
        "kinds": _kinds(iterate(context.writer.folder / "examples", examples.table, ["kind"])),
        "preferences": made.told,
        "labels": labels.counts(labelled),
        "wanted": {"clusters": section.pick.clusters, "validation": section.pick.validation},
        "found": {
            "clusters": len(arranged.metrics["clusters"]),
            "validation": round(examples.labels.get("validation", 0) / examples.table.rows, 4),
        },
    }
    dropped = {reason: picked.labels.get(reason, 0) for reason in DROPPED_BY if reason}
    rows_in = candidates.table("candidates").rows + labels.counts(labelled)["corrected"]
    return RowCounts(rows_in, {"picked": num_picked} | dropped)


def _kinds(pieces: Iterable[pa.Table]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for piece in pieces:
        found.update(piece["kind"].to_pylist())
    return dict(sorted(found.items()))
