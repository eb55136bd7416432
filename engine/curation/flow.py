"""Room 4's door to Ray: only ids, keys, pairs and signatures travel between rows; texts stay where they were read.

Decisions come back to the rows as one small table, 120 bytes for each row that is not simply kept, which every task reads.
"""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray import ObjectRef
from ray.data import Dataset

from engine.contract.curation import Curation
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.curation import copies
from engine.curation.arrange import arrange, coverage
from engine.curation.copies import DECISION
from engine.curation.decontaminate import Index, build_index
from engine.curation.embed import EMBEDDED, Embedder
from engine.curation.pick import BEST_FIRST, ENTRY, READ, best, enter
from engine.curation.represent import examples
from engine.fleet import stream, whole
from engine.fleet.crew import Crew
from engine.lineage.artifact import Artifact
from engine.rows import CANDIDATE, EMBEDDING, EXAMPLE, HOLDOUT, PICKED, add
from engine.shards import Folder
from engine.similarity import flow as similarity

SCAN_ROWS = 20_000  # rows of a block
PROMPTS_PER_PARTITION = 100_000
ROWS_PER_SHARD = 50_000


class Arranged(NamedTuple):
    """What became of the rows, where every task can read it, and what is known of the whole."""

    decisions: ObjectRef  # copies.DECISION
    facts: dict[str, Any]


class Kept(NamedTuple):
    """Which rows of the table candidates are kept, and how many."""

    candidates: Artifact
    decisions: ObjectRef  # copies.DECISION
    rows: int


def enter_rows(candidates: Artifact, prompts: Artifact, section: Curation, pool: Pool, *, partitions: int | None = None) -> Dataset:
    """The tables candidates and holdout in, ENTRY out: one answer a prompt is still in."""
    index = whole.run(_index, prompts=prompts, section=section)
    rows = stream.scan(candidates, "candidates", pool, rows=SCAN_ROWS, columns=READ)
    rows = stream.apply(rows, _enter, pool, section=section, index=[index])
    count = partitions or max(1, candidates.table("candidates").rows // PROMPTS_PER_PARTITION)
    return stream.apply(rows.repartition(count, keys=["prompt_id"]), best, pool).materialize()


def settle(entries: Dataset, section: Curation, pool: Pool, *, partitions: int | None = None) -> ObjectRef:
    """ENTRY in; out comes DECISION of the rows that are out by now. One task holds about 120 bytes a row."""
    crew = Crew(pool)
    plan = similarity.plan(entries.count(), section.minhash, BEST_FIRST, parts=partitions)
    held = similarity.sign(entries.to_arrow_refs(), plan, crew, how=partial(copies.sign, section=section))
    duplicates = similarity.find(held, plan, crew).duplicates
    return whole.run(_settle, (entries, _FATE), duplicates=duplicates, section=section)


def embed(candidates: Artifact, lost: ObjectRef, pool: Pool, *, embedder: Pool, folder: Path) -> Dataset:
    """The rows that are still in, as EMBEDDED: read by `pool`; an actor of `embedder` loads the model of `folder` once."""
    columns = ["answer_id", "prompt_id", "text", "scenario", "confidence", "agreement", "answer"]
    rows = stream.scan(candidates, "candidates", pool, rows=SCAN_ROWS, columns=columns)
    rows = stream.apply(rows, _still_in, pool, lost=[lost])
    device = "cuda" if embedder.gpus else "cpu"
    return stream.apply(rows, Embedder, embedder, batch=embedder.batch, folder=folder, device=device).materialize()


def settle_meaning(entries: Dataset, lost: ObjectRef, embedded: Dataset | None, section: Curation) -> Arranged:
    """EMBEDDED in; out come all decisions. One task holds about 2 KB a row."""
    decisions, facts = whole.run(_settle_meaning, (entries, ENTRY), (embedded, EMBEDDED), returns=2, lost=lost, section=section)
    return Arranged(decisions, ray.get(facts))


def write_picked(candidates: Artifact, decisions: ObjectRef, pool: Pool, folder: Folder) -> stream.Written:
    """Every candidate as PICKED, kept or dropped."""
    rows = stream.scan(candidates, "candidates", pool, rows=SCAN_ROWS)
    rows = stream.apply(rows, _decide, pool, decisions=[decisions])
    return stream.write(rows, stream.Target(folder, PICKED, label="dropped_by"), pool)


def write_examples(kept: Kept, folder: Folder, *, specialist: Specialist, section: Curation, pool: Pool) -> stream.Written:
    """What is kept as EXAMPLE, in shards sorted by example_id."""
    shards = 1 + kept.rows // ROWS_PER_SHARD
    given = {"decisions": [kept.decisions], "specialist": specialist, "section": section, "shards": shards}
    rows = stream.apply(stream.scan(kept.candidates, "candidates", pool, rows=SCAN_ROWS), _examples, pool, **given)
    rows = rows.repartition(min(shards, 200), keys=["shard"])
    return stream.write(rows, stream.Target(folder, EXAMPLE, label="split", shard=["shard"]), pool)


def write_embeddings(embedded: Dataset, folder: Folder, pool: Pool) -> stream.Written:
    """Embeddings by prompt_id, stored once for whoever needs them."""
    return stream.write(embedded.select_columns(EMBEDDING.names), stream.Target(folder, EMBEDDING), pool)


# What an op refers to travels inside a list and is fetched once a task.


def _index(prompts: Artifact, section: Curation) -> Index:
    return build_index(prompts.read("holdout", HOLDOUT, ["prompt_id", "text"]), section.decontaminate)


def _enter(rows: pa.Table, section: Curation, index: list[ObjectRef]) -> pa.Table:
    return enter(rows, section, ray.get(index[0]))


def _still_in(rows: pa.Table, lost: list[ObjectRef]) -> pa.Table:
    out = ray.get(lost[0])["answer_id"].combine_chunks()
    rows = rows.filter(pc.invert(pc.is_in(rows["answer_id"], out)))
    for name in ("confidence", "agreement"):
        rows = rows.set_column(rows.column_names.index(name), name, pc.fill_null(rows[name], -1.0))
    rows = rows.append_column("length", pc.cast(pc.utf8_length(rows["answer"]), pa.int64())).drop_columns(["answer"])
    return rows.sort_by("prompt_id")  # so that the same texts meet in a batch, whatever the order of the input


def _settle(entries: pa.Table, duplicates: list[ObjectRef], section: Curation) -> pa.Table:
    return copies.settle(entries, ray.get(duplicates), section)


def _settle_meaning(entries: pa.Table, embedded: pa.Table, lost: pa.Table, section: Curation) -> tuple[pa.Table, dict[str, Any]]:
    found = arrange(embedded, section)
    decisions = pa.concat_tables([lost, found.decisions])
    return decisions, {"clusters": found.clusters, "coverage": coverage(entries, decisions)}


def _decide(rows: pa.Table, decisions: list[ObjectRef]) -> pa.Table:
    table: pa.Table = ray.get(decisions[0])
    found = table.take(pc.index_in(rows["answer_id"], table["answer_id"].combine_chunks()))
    columns = {name: found[name] for name in DECISION.names[1:]}
    columns["dropped_by"] = pc.fill_null(columns["dropped_by"], "")
    columns["rep_id"] = pc.fill_null(columns["rep_id"], "")
    columns["cluster"] = pc.fill_null(columns["cluster"], -1)
    return add(rows.select(CANDIDATE.names), PICKED, columns)


def _examples(rows: pa.Table, decisions: list[ObjectRef], specialist: Specialist, section: Curation, shards: int) -> pa.Table:
    made = examples(_decide(rows, decisions), specialist, section.pick, seed=section.seed)
    numbers = [int(one[:8], 16) * shards >> 32 for one in made["example_id"].to_pylist()]
    return made.append_column("shard", pa.array(numbers, pa.int64()))


_FATE = pa.schema([ENTRY.field(name) for name in ("answer_id", "dropped_by", "rep_id", "similarity")])
