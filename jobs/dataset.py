"""Judged candidates in, a representative training set out; what is dropped stays, with the reason and what it lost to."""

from engine.curation import flow
from engine.errors import InputError
from engine.lineage import spending
from engine.lineage.artifact import Tally
from engine.lineage.job import Bench
from engine.models.locate import locate
from engine.rows import DROPPED_BY
from engine.shards import iterate
from jobs import evaluation_lists


def run(bench: Bench) -> Tally:
    """One answer a prompt; copies by text and by meaning lose to one keeper; clusters are balanced; what is left is taught."""
    section, pool = bench.contract.curation, bench.profile.cpu
    candidates, prompts = bench.artifact("candidates"), bench.artifact("prompts")
    encoder = None
    if section.semantic:
        encoder = flow.Encoder(locate(section.semantic.model, root=bench.root, home=bench.models), bench.profile.embedder)
    known = flow.listed(prompts, evaluation_lists.rows(bench), pool)
    entries = flow.enter_rows(candidates, known, section, pool, encoder=encoder)
    lost = flow.settle(entries, section, pool)
    embedded = None
    if encoder:
        embedded = flow.embed(candidates, lost, pool, section=section, encoder=encoder)
        bench.draft.tables["embeddings"] = flow.write_embeddings(embedded, bench.draft.folder / "embeddings", pool).table
        known = flow.embed_listed(known, encoder) if section.decontaminate.similarity else known
    arranged = flow.settle_meaning(entries, lost, embedded, known, section)
    picked = flow.write_picked(candidates, arranged.decisions, pool, bench.draft.folder / "picked")
    num_picked = picked.labels.get("", 0)
    if not num_picked:
        raise InputError(
            f"dataset: none of {picked.table.rows} candidates is left: {picked.labels}. Look at the pools and reasons in "
            f"{candidates.folder}, then mend the teacher's prompt, judges.accept or curation.pick.pools."
        )
    kept = flow.Kept(candidates, arranged.decisions, num_picked, arranged.facts["weights"])
    specialist = bench.contract.specialist
    examples = flow.write_examples(kept, bench.draft.folder / "examples", specialist=specialist, section=section, pool=pool)
    bench.draft.tables |= {"picked": picked.table, "examples": examples.table}
    bench.draft.facts = {
        **arranged.facts,
        "decontamination": arranged.facts["decontamination"]
        | {"holdout": prompts.table("holdout").digest, "files": evaluation_lists.of_job(bench)},
        "picked": spending.picked(iterate(bench.draft.folder / "picked", picked.table, ["teacher", "dropped_by"])),
        "splits": examples.labels,
        "wanted": {"clusters": section.pick.clusters, "validation": section.pick.validation},
        "found": {
            "clusters": len(arranged.facts["clusters"]),
            "validation": round(examples.labels.get("validation", 0) / examples.table.rows, 4),
        },
    }
    dropped = {reason: picked.labels.get(reason, 0) for reason in DROPPED_BY if reason}
    return Tally(picked.table.rows, {"picked": num_picked} | dropped)
