"""Room 4's door to Ray: only ids, keys, pairs and signatures travel between rows; texts stay where they were read.

Decisions come back to the rows as one small table, 120 bytes for each row that is not simply kept, which every task reads.
"""

from collections.abc import Callable
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
from engine.contract.signals import SIGNALS
from engine.contract.specialist import Specialist
from engine.curation import contrastive, copies, decontaminate, dispositions
from engine.curation.arrange import arrange, coverage
from engine.curation.contamination import told
from engine.curation.copies import DECISION
from engine.curation.embedder import EMBEDDED, Embedder
from engine.curation.labels import apply_labels
from engine.curation.measure import weights
from engine.curation.pairs import pairs
from engine.curation.pick import ENTRY, READ, enter, leaks_of
from engine.curation.repair import Repair, RepairSpec
from engine.curation.represent import examples
from engine.curation.samples import BEST_FIRST, best, follow
from engine.dedup import flow as similarity
from engine.dedup.embedder import AT_ONCE
from engine.dedup.embedder import Embedder as Sentence
from engine.distributed import gather, stream
from engine.distributed.task_pool import TaskPool
from engine.rows import CANDIDATE, EMBEDDING, EXAMPLE, PICKED, PREFERENCE, add, grow
from engine.storage.artifact import Artifact
from engine.storage.shards import Folder

SCAN_ROWS = 20_000  # rows of a block
PROMPTS_PER_PARTITION = 100_000
ROWS_PER_SHARD = 50_000


class Arranged(NamedTuple):
    """What became of the rows, where every task can read it, and what is known of the whole."""

    decisions: ObjectRef  # copies.DECISION
    metrics: dict[str, Any]


class Judged(NamedTuple):
    """The table candidates, and what persons said of some of it."""

    candidates: Artifact
    labels: ObjectRef | None = None  # labels.LABEL

    def scan(self, pool: Pool, columns: list[str] | None = None) -> Dataset:
        """Stream the answers with the labels in place."""
        rows = stream.scan(self.candidates, "candidates", pool, rows=SCAN_ROWS, columns=columns)
        return stream.apply(rows, _given, pool, how=apply_labels, refs=[self.labels]) if self.labels else rows

    @property
    def partitions(self) -> int:
        """Into how many parts the prompts are sent where each must be whole."""
        return max(1, self.candidates.table("candidates").rows // PROMPTS_PER_PARTITION)


class Kept(NamedTuple):
    """Which rows of the table candidates are kept, how many, and what they weigh."""

    judged: Judged
    decisions: ObjectRef  # copies.DECISION
    rows: int
    weights: dict[str, float]  # value of the side that is balanced -> weight; {} if none is


class Order(NamedTuple):
    """What is ordered of the examples, and where they are made."""

    specialist: Specialist
    section: Curation
    pool: Pool


class RepairPool(NamedTuple):
    """Who mends failed answers, and what must not stand in what is written."""

    spec: RepairSpec
    index: ObjectRef  # decontaminate.Index


class Encoder(NamedTuple):
    """Which sentence-transformers model embeds, and where."""

    folder: Path
    pool: Pool

    @property
    def device(self) -> str:
        """Where its tensors lie."""
        return "cuda" if self.pool.gpus else "cpu"


def listed(prompts: Artifact, lists: Dataset | None, pool: Pool) -> Dataset:
    """The table holdout, and the rows of evaluation lists as room 1 reads them, as LISTED: what must stay unknown."""
    columns = ["prompt_id", "text", "reference"]
    held = stream.scan(prompts, "holdout", pool, rows=SCAN_ROWS, columns=columns)
    held = stream.apply(held, decontaminate.listed, pool, name=decontaminate.HOLDOUT)
    return (held.union(stream.apply(lists, decontaminate.listed, pool)) if lists else held).materialize()


def enter_rows(
    judged: Judged,
    known: Dataset,
    section: Curation,
    pool: Pool,
    *,
    encoder: Encoder | None = None,
    partitions: int | None = None,
) -> Dataset:
    """The table candidates and LISTED in, ENTRY out: what is learnt of a prompt's answers is still in."""
    index = index_of(known, section)
    rows = stream.apply(judged.scan(pool, READ), _enter, pool, section=section, index=[index])
    if encoder and section.answers and section.answers.similarity is not None:
        given = {"folder": encoder.folder, "device": encoder.device, "text": "answer"}
        rows = stream.apply(rows, Sentence, encoder.pool, batch=AT_ONCE, **given)
    return stream.apply(
        rows.repartition(partitions or judged.partitions, keys=["prompt_id"]), _best, pool, section=section
    ).materialize()


def settle(entries: Dataset, section: Curation, pool: Pool, *, partitions: int | None = None) -> ObjectRef:
    """ENTRY in; out comes DECISION of the rows that are out by now. One task holds about 120 bytes a row."""
    crew = TaskPool(pool)
    plan = similarity.plan(entries.count(), section.minhash, BEST_FIRST, parts=partitions)
    held = similarity.sign(entries.to_arrow_refs(), plan, crew, how=partial(copies.sign, section=section))
    duplicates = similarity.find(held, plan, crew).duplicates
    return gather.run(_settle, (entries, _FATE), duplicates=duplicates, section=section)


def embed(judged: Judged, lost: ObjectRef, pool: Pool, *, section: Curation, encoder: Encoder) -> Dataset:
    """The rows that are still in, as EMBEDDED: read by `pool`; each actor of the encoder loads the model once."""
    columns = [
        "answer_id", "prompt_id", "text", "task_unit", "layer", "difficulty", "scenario", "confidence", "agreement", "answer",
        "logprob", "tokens_out", *SIGNALS,
    ]  # fmt: skip
    rows = stream.apply(judged.scan(pool, columns), _still_in, pool, lost=[lost])
    given = {"folder": encoder.folder, "device": encoder.device, "parts": tuple(section.decontaminate.similarity)}
    return stream.apply(rows, Embedder, encoder.pool, batch=AT_ONCE, **given).materialize()


def embed_listed(known: Dataset, encoder: Encoder) -> Dataset:
    """LISTED with `embedding`."""
    return stream.apply(known, Sentence, encoder.pool, batch=AT_ONCE, folder=encoder.folder, device=encoder.device).materialize()


def settle_meaning(entries: Dataset, lost: ObjectRef, embedded: Dataset | None, known: Dataset, section: Curation) -> Arranged:
    """EMBEDDED and LISTED in; out come all decisions. One task holds about 2 KB a row, and 2 KB a listed text if it is embedded."""
    wholes = ((entries, ENTRY), (embedded, EMBEDDED), (known, KNOWN if section.decontaminate.similarity else decontaminate.LISTED))
    decisions, metrics = gather.run(_settle_meaning, *wholes, returns=2, lost=lost, section=section)
    return Arranged(decisions, ray.get(metrics))


def write_picked(judged: Judged, decisions: ObjectRef, pool: Pool, folder: Folder) -> stream.Written:
    """Every candidate as PICKED, kept or dropped."""
    rows = stream.apply(judged.scan(pool), _decide, pool, decisions=[decisions])
    return stream.write(rows, stream.Target(folder, PICKED, label="dropped_by"), pool)


def write_examples(kept: Kept, folder: Folder, *, order: Order, beside: Dataset | None = None) -> stream.Written:
    """What is kept, and the examples `beside` it, as EXAMPLE in shards sorted by example_id."""
    shards = 1 + kept.rows // ROWS_PER_SHARD
    given = {"decisions": [kept.decisions], "specialist": order.specialist, "section": order.section, "weights": kept.weights}
    rows = stream.apply(kept.judged.scan(order.pool), _examples, order.pool, **given)
    rows = stream.apply(rows.union(beside) if beside else rows, _sharded, order.pool, shards=shards)
    rows = rows.repartition(min(shards, 200), keys=["shard"])
    return stream.write(rows, stream.Target(folder, EXAMPLE, label="split", shard=["shard"]), order.pool)


def index_of(known: Dataset, section: Curation) -> ObjectRef:
    """The n-grams of LISTED, where every task can read them."""
    texts = known.select_columns(decontaminate.LISTED.names), decontaminate.LISTED
    return gather.run(decontaminate.build_index, texts, section=section.decontaminate)


def asked(kept: Kept, index: ObjectRef, order: Order) -> Dataset:
    """Every answer that does not resemble what must stay unknown, as fates.COLUMNS with each prompt whole in one block."""
    rows = stream.apply(kept.judged.scan(order.pool), _decide, order.pool, decisions=[kept.decisions])
    rows = stream.apply(rows, _given, order.pool, how=dispositions.clean, refs=[index], section=order.section)
    return rows.repartition(kept.judged.partitions, keys=["prompt_id"])


def write_preferences(answers: Dataset, folder: Folder, *, order: Order) -> stream.Written:
    """fates.COLUMNS in; the pairs as PREFERENCE, counted by why the other answer is worse."""
    rows = stream.apply(answers, pairs, order.pool, specialist=order.specialist, section=order.section)
    return stream.write(rows, stream.Target(folder, PREFERENCE, label="reason"), order.pool)


def boundary_examples(answers: Dataset, kept: Kept, order: Order, mend: RepairPool | None = None) -> Dataset:
    """fates.COLUMNS in, EXAMPLE of boundary material out, no more than have a place."""
    given = {"specialist": order.specialist, "section": order.section}
    made = stream.apply(answers, contrastive.boundary, order.pool, **given)
    if mend:
        open_ = _placed(stream.apply(answers, contrastive.unsolved, order.pool, **given), kept, order)
        mended = stream.apply(open_, Repair, mend.spec.client.pool, spec=mend.spec)
        told = {"how": dispositions.clean_targets, "refs": [mend.index], "section": order.section}
        made = made.union(stream.apply(mended, _given, order.pool, **told))
    return _placed(made, kept, order)


def _placed(made: Dataset, kept: Kept, order: Order) -> Dataset:
    """As many of the examples as have a place. One task sees all their ids."""
    made = made.materialize()
    count = contrastive.most(kept.rows, order.section.boundary_share)
    ids = pa.schema([EXAMPLE.field("example_id")])
    chosen = gather.run(contrastive.chosen, (made.select_columns(ids.names), ids), count=count, seed=order.section.seed)
    return stream.apply(made, _given, order.pool, how=contrastive.of, refs=[chosen])


def write_embeddings(embedded: Dataset, folder: Folder, pool: Pool) -> stream.Written:
    """Embeddings by prompt_id, stored once for whoever needs them."""
    return stream.write(embedded.select_columns(EMBEDDING.names), stream.Target(folder, EMBEDDING), pool)


# What an op refers to travels inside a list and is fetched once a task.


def _enter(rows: pa.Table, section: Curation, index: list[ObjectRef]) -> pa.Table:
    return enter(rows, section, ray.get(index[0]))


def _best(entries: pa.Table, section: Curation) -> pa.Table:
    return best(entries, section.answers).select(ENTRY.names)


def _still_in(rows: pa.Table, lost: list[ObjectRef]) -> pa.Table:
    out = ray.get(lost[0])["answer_id"].combine_chunks()
    rows = rows.filter(pc.invert(pc.is_in(rows["answer_id"], out)))
    for name in ("confidence", "agreement"):
        rows = rows.set_column(rows.column_names.index(name), name, pc.fill_null(rows[name], -1.0))
    rows = rows.append_column("length", pc.cast(pc.utf8_length(rows["answer"]), pa.int64()))
    surprise = pc.divide(pc.negate(rows["logprob"]), pc.cast(pc.max_element_wise(rows["tokens_out"], 1), pa.float32()))
    rows = rows.append_column("surprise", surprise).drop_columns(["logprob", "tokens_out"])
    return rows.sort_by("prompt_id")  # so that the same texts meet in a batch, whatever the order of the input


def _settle(entries: pa.Table, duplicates: list[ObjectRef], section: Curation) -> pa.Table:
    return copies.settle(entries, ray.get(duplicates), section)


def _settle_meaning(
    entries: pa.Table, embedded: pa.Table, known: pa.Table, lost: pa.Table, section: Curation
) -> tuple[pa.Table, dict[str, Any]]:
    found = arrange(embedded, section, known if section.decontaminate.similarity else None)
    decisions = follow(pa.concat_tables([lost, found.decisions]))
    metrics = {"clusters": found.clusters, "coverage": coverage(entries, decisions), "selection": found.selection}
    out = decisions.filter(pc.not_equal(decisions["dropped_by"], ""))["answer_id"].combine_chunks()
    kept = entries.filter(pc.invert(pc.is_in(entries["answer_id"], out)))
    leaks = pa.concat_tables([leaks_of(entries), found.leaks])
    metrics["decontamination"] = told(leaks, kept["answer_id"].combine_chunks(), known, section.decontaminate)
    side = section.pick.balance
    if side == "cluster":
        metrics["weights"] = weights(decisions.filter(pc.equal(decisions["dropped_by"], ""))["cluster"].cast(pa.string()))
    else:
        metrics["weights"] = weights(kept[side]) if side else {}
    return decisions, metrics


def _decide(rows: pa.Table, decisions: list[ObjectRef]) -> pa.Table:
    table: pa.Table = ray.get(decisions[0])
    found = table.take(pc.index_in(rows["answer_id"], table["answer_id"].combine_chunks()))
    columns = {name: found[name] for name in DECISION.names[1:]}
    columns["dropped_by"] = pc.fill_null(columns["dropped_by"], "")
    columns["duplicate_of"] = pc.fill_null(columns["duplicate_of"], "")
    columns["cluster"] = pc.fill_null(columns["cluster"], -1)
    return add(rows.select(CANDIDATE.names), PICKED, columns)


def _examples(
    rows: pa.Table, decisions: list[ObjectRef], specialist: Specialist, section: Curation, weights: dict[str, float]
) -> pa.Table:
    return examples(_decide(rows, decisions), specialist, section.pick, seed=section.seed, weights=weights)


def _sharded(made: pa.Table, shards: int) -> pa.Table:
    numbers = [int(one[:8], 16) * shards >> 32 for one in made["example_id"].to_pylist()]
    return made.append_column("shard", pa.array(numbers, pa.int64()))


def _given(rows: pa.Table, how: Callable[..., pa.Table], refs: list[ObjectRef], **given: Any) -> pa.Table:
    return how(rows, *map(ray.get, refs), **given)


_FATE = pa.schema([ENTRY.field(name) for name in ("answer_id", "dropped_by", "duplicate_of", "similarity")])
KNOWN = grow(decontaminate.LISTED, ("embedding", pa.list_(pa.float32())))
