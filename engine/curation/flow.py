"""Curation on Ray, in parts: no task holds a text, a vector or an id of every row.

Ids, keys, signatures and dispositions (120 bytes a row) travel between tasks, texts do not. Dispositions are in parts, one for each
block of entries; what needs those of its own rows reads part by part (`dispositions.of_answers`).
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Curation
from engine.contract.profile import Pool
from engine.contract.signals import SIGNALS
from engine.curation import contamination, decide_flow, ngram_index, text_duplicates
from engine.curation.dispositions import DISPOSITION, KEPT, Coverage, coverage, dropped_ids, follow, of_answers, total
from engine.curation.embedder import CurationEmbedder
from engine.curation.entries import ENTRY, READ, contamination_of
from engine.curation.entries import entries as make_entries
from engine.curation.labels import apply_labels
from engine.curation.measure import values_of, weights_of
from engine.curation.samples import BEST_FIRST, best
from engine.dedup import flow as dedup
from engine.dedup.embedder import AT_ONCE, TextEmbedder
from engine.dedup.plan import MOST_GROUPS
from engine.distributed import gather, stream
from engine.distributed.in_process import executor, get, put
from engine.distributed.rows import Ref, Rows
from engine.inference.weights import Weights
from engine.records.dataset import DecisionMetrics
from engine.records.record import Table
from engine.rows import CANDIDATE, EMBEDDING, PICKED, add, grow
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder
from engine.storage.shards import iterate

SCAN_ROWS = 20_000  # rows of a block
PROMPTS_PER_PARTITION = 100_000


class Decisions(NamedTuple):
    """The dispositions of all rows, in the object store, and their metrics."""

    dispositions: list[Ref]  # dispositions.DISPOSITION, in parts
    metrics: DecisionMetrics


class LabelledCandidates(NamedTuple):
    """The table candidates, and the labels of persons."""

    candidates: Artifact
    labels: Ref | None = None  # labels.LABEL

    def scan(self, pool: Pool, columns: list[str] | None = None) -> Rows:
        """Return the rows with the labels applied."""
        rows = stream.scan(self.candidates, "candidates", pool, rows=SCAN_ROWS, columns=columns)
        return stream.apply(rows, with_refs, pool, function=apply_labels, refs=[self.labels]) if self.labels else rows

    @property
    def partitions(self) -> int:
        """Number of partitions by prompt, for ops that need every prompt whole.

        They are the blocks of the search for copies: beyond MOST_GROUPS (51 million rows) they grow, some 750 bytes a row, and the
        task that signs one holds three times as much (`engine.dedup.plan.GROUP_BYTES`).
        """
        return max(1, min(MOST_GROUPS, self.candidates.table("candidates").rows // PROMPTS_PER_PARTITION))


class Entries(NamedTuple):
    """ENTRY of all candidates, in the object store: the same blocks for every step, since parts are matched by their place."""

    blocks: list[Ref]
    rows: int


class Encoder(NamedTuple):
    """The sentence-transformers model and its pool."""

    folder: Weights
    pool: Pool

    def embed(self, rows: Rows, actor: type, **options: Any) -> Rows:
        """Return `rows` as the class `actor` embeds them; each actor of the pool loads the model once."""
        device = "cuda" if self.pool.gpus else "cpu"
        return stream.apply(rows, actor, self.pool, batch=AT_ONCE, folder=self.folder, device=device, **options)


def protected_texts(prompts: Artifact, lists: Rows | None, pool: Pool) -> Rows:
    """Return PROTECTED of the table holdout and of evaluation lists, which are read like sources."""
    columns = ["prompt_id", "text", "reference"]
    holdout = stream.scan(prompts, "holdout", pool, rows=SCAN_ROWS, columns=columns)
    holdout = stream.apply(holdout, ngram_index.protected, pool, name=ngram_index.HOLDOUT)
    return (holdout.union(stream.apply(lists, ngram_index.protected, pool)) if lists else holdout).materialize()


def entries(
    answers: LabelledCandidates,
    index: Ref,
    section: Curation,
    pool: Pool,
    *,
    encoder: Encoder | None = None,
    partitions: int | None = None,
) -> Entries:
    """Return ENTRY of all candidates, by `index_of`. Of the answers to a prompt those that are kept have no `dropped_by`."""
    rows = stream.apply(answers.scan(pool, READ), with_refs, pool, function=make_entries, refs=[index], section=section)
    if encoder and section.answers and section.answers.similarity is not None:
        rows = encoder.embed(rows, TextEmbedder, text="answer")
    rows = rows.repartition(partitions or answers.partitions, keys=["prompt_id"])
    rows = stream.apply(rows, _best, pool, section=section).materialize()
    return Entries(rows.to_arrow_refs(), rows.count())


def resolve_text_duplicates(entries: Entries, section: Curation, pool: Pool, *, partitions: int | None = None) -> list[Ref]:
    """Return references to DISPOSITION of the rows that are dropped so far, one for each block of `entries`."""
    tasks, blocks = executor(pool), entries.blocks
    plan = dedup.plan(entries.rows, section.minhash, BEST_FIRST, parts=partitions)
    compute = partial(text_duplicates.signed, section=section)
    signatures = dedup.compute_signatures(blocks, plan, tasks, compute=compute)
    copies = dedup.by_block(dedup.find_duplicates(signatures, plan, tasks), len(blocks), tasks)
    return [tasks.start(_resolve_text_duplicates, section, block, *mine)[0] for block, mine in zip(blocks, copies, strict=True)]


def embed(answers: LabelledCandidates, dropped: list[Ref], pool: Pool, *, section: Curation, encoder: Encoder) -> Rows:
    """Return EMBEDDED of the rows that are not dropped. They are read on `pool`; each actor of the encoder loads the model once."""
    columns = [
        "answer_id", "prompt_id", "text", "task_unit", "layer", "difficulty", "scenario", "confidence", "agreement", "answer",
        "logprob", "tokens_out", *SIGNALS,
    ]  # fmt: skip
    rows = stream.apply(answers.scan(pool, columns), _not_dropped, pool, dropped=dropped)
    return encoder.embed(rows, CurationEmbedder, parts=tuple(section.decontaminate.similarity)).materialize()


def embed_protected(protected: Rows, encoder: Encoder) -> Rows:
    """Return PROTECTED with `embedding`."""
    return encoder.embed(protected, TextEmbedder).materialize()


def decide_all(
    entries: Entries, dropped: list[Ref], embedded: Rows | None, protected: Rows, section: Curation, pool: Pool
) -> Decisions:  # fmt: skip
    """Return the dispositions of all rows, as in `decide_flow`. Tasks hold 2 KB a protected text if it is compared by embedding."""
    tasks, compares = executor(pool), bool(section.decontaminate.similarity)
    texts = gather.run(_itself, (protected, PROTECTED_EMBEDDED if compares else PROTECTED_NAMES))
    blocks, rows = (embedded.to_arrow_refs(), embedded.count()) if embedded else ([], 0)
    nothing = put(ngram_index.PROTECTED.empty_table())
    decided = decide_flow.decide_all(blocks, rows, texts if compares else nothing, section, tasks)
    parts = zip(entries.blocks, dropped, strict=True)
    finished = [tasks.start(_finish, section, *part, decided.dispositions, returns=2) for part in parts]
    counts = [of_block for _, of_block in finished]
    summary = ((), None) if decided.summary is None else decided.summary
    [metrics] = tasks.start(_metrics, section, texts, summary, len(counts), *counts, *decided.resemblance)
    return Decisions([table for table, _ in finished], get(metrics))


def write_picked(answers: LabelledCandidates, dispositions: list[Ref], pool: Pool, folder: Folder) -> stream.Written:
    """Write every candidate as PICKED, kept or dropped."""
    rows = stream.apply(answers.scan(pool), with_dispositions, pool, dispositions=dispositions)
    return stream.write(rows, stream.Target(folder, PICKED, label="dropped_by"), pool)


def index_of(protected: Rows, prompts: Artifact, section: Curation) -> Ref:
    """Return a reference to the n-gram index of PROTECTED, with the n-grams that most `prompts` share."""
    tables = [(split, prompts.folder / name, prompts.record.tables.get(name)) for split, name in ngram_index.SPLITS.items()]
    return gather.run(_index, (protected, ngram_index.PROTECTED), tables=tables, section=section)


def write_embeddings(embedded: Rows, folder: Folder, pool: Pool) -> stream.Written:
    """Write the embeddings by prompt_id."""
    return stream.write(embedded.select_columns(EMBEDDING.names), stream.Target(folder, EMBEDDING), pool)


# References travel inside of lists, so that each task fetches their values once.


def _best(entries: pa.Table, section: Curation) -> pa.Table:
    return best(entries, section.answers).select(ENTRY.names)


def _index(texts: pa.Table, tables: list[tuple[str, Folder, Table | None]], section: Curation) -> ngram_index.NgramIndex:
    pieces = {split: iterate(folder, table, ["text", "source", "task_unit"]) for split, folder, table in tables if table}
    index = ngram_index.build_index(texts, section.decontaminate)
    return ngram_index.with_shared(index, ngram_index.sample_prompts(pieces), section)


def _not_dropped(rows: pa.Table, dropped: list[Ref]) -> pa.Table:
    out = of_answers(rows["answer_id"], dropped)["answer_id"].combine_chunks()
    rows = rows.filter(pc.invert(pc.is_in(rows["answer_id"], out)))
    for name in ("confidence", "agreement"):
        rows = rows.set_column(rows.column_names.index(name), name, pc.fill_null(rows[name], -1.0))
    rows = rows.append_column("length", pc.cast(pc.utf8_length(rows["answer"]), pa.int64()))
    mean_nll = pc.divide(pc.negate(rows["logprob"]), pc.cast(pc.max_element_wise(rows["tokens_out"], 1), pa.float32()))
    rows = rows.append_column("mean_nll", mean_nll).drop_columns(["logprob", "tokens_out"])
    return rows.sort_by("prompt_id")  # so that a batch holds the same texts for any order of the input


def _resolve_text_duplicates(section: Curation, entries: pa.Table, *duplicates: pa.Table) -> pa.Table:
    return text_duplicates.resolve(entries, duplicates, section)


class BlockCounts(NamedTuple):
    """What the metrics need of a block of entries."""

    coverage: Coverage
    values: Counter[str]  # of the balanced stratum, of kept rows
    resemblance: contamination.Resemblance


def _itself(table: pa.Table) -> pa.Table:
    return table


def _finish(section: Curation, entries: pa.Table, dropped: pa.Table, decided: list[Ref]) -> tuple[pa.Table, BlockCounts]:
    """Return DISPOSITION of a block of ENTRY, which has every prompt whole, and its counts."""
    dispositions = follow(pa.concat_tables([dropped, of_answers(entries["answer_id"], decided)]))
    kept = entries.filter(pc.invert(pc.is_in(entries["answer_id"], dropped_ids(dispositions))))
    resemblance = contamination.counted(contamination_of(entries), kept["answer_id"].combine_chunks())
    values = values_of(kept, dispositions, section.pick.balance)
    return dispositions, BlockCounts(coverage(entries, dispositions), values, resemblance)


def _metrics(section: Curation, protected: pa.Table, summary: tuple[Any, Any], count: int, *parts: Any) -> DecisionMetrics:
    counts: tuple[BlockCounts, ...] = parts[:count]
    clusters, selection = summary
    resemblance = [of_block.resemblance for of_block in counts] + [*parts[count:]]
    return DecisionMetrics(
        clusters=clusters,
        coverage=total([of_block.coverage for of_block in counts]),
        selection=selection,
        decontamination=contamination.summary(resemblance, protected, section.decontaminate),
        weights=weights_of(sum((of_block.values for of_block in counts), Counter[str]())),
    )


def with_dispositions(rows: pa.Table, dispositions: list[Ref]) -> pa.Table:
    table = of_answers(rows["answer_id"], dispositions)
    mine = table.take(pc.index_in(rows["answer_id"], table["answer_id"].combine_chunks()))
    columns = {name: pc.fill_null(mine[name], KEPT[name]) if name in KEPT else mine[name] for name in DISPOSITION.names[1:]}
    return add(rows.select(CANDIDATE.names), PICKED, columns)


def with_refs(rows: pa.Table, function: Callable[..., pa.Table], refs: list[Ref], **options: Any) -> pa.Table:
    return function(rows, *map(get, refs), **options)


PROTECTED_NAMES = pa.schema([field for field in ngram_index.PROTECTED if field.name != "text"])
PROTECTED_EMBEDDED = grow(PROTECTED_NAMES, ("embedding", pa.list_(pa.float32())))
