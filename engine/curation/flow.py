"""Curation on Ray: ids, keys, signatures and dispositions (120 bytes a row) travel between tasks, texts do not."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Curation
from engine.contract.profile import Pool
from engine.contract.signals import SIGNALS
from engine.curation import contamination, ngram_index, text_duplicates
from engine.curation.decide import decide
from engine.curation.dispositions import DISPOSITION, KEPT, coverage, dropped_ids, follow
from engine.curation.embedder import EMBEDDED, CurationEmbedder
from engine.curation.entries import ENTRY, READ, contamination_of
from engine.curation.entries import entries as make_entries
from engine.curation.labels import apply_labels
from engine.curation.measure import weights
from engine.curation.samples import BEST_FIRST, best
from engine.dedup import flow as dedup
from engine.dedup.embedder import AT_ONCE, TextEmbedder
from engine.distributed import gather, stream
from engine.distributed.in_process import executor, get
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

    dispositions: Ref  # dispositions.DISPOSITION
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
        """Number of partitions by prompt, for ops that need every prompt whole."""
        return max(1, self.candidates.table("candidates").rows // PROMPTS_PER_PARTITION)


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
) -> Rows:
    """Return ENTRY of all candidates, by `index_of`. Of the answers to a prompt those that are kept have no `dropped_by`."""
    rows = stream.apply(answers.scan(pool, READ), with_refs, pool, function=make_entries, refs=[index], section=section)
    if encoder and section.answers and section.answers.similarity is not None:
        rows = encoder.embed(rows, TextEmbedder, text="answer")
    rows = rows.repartition(partitions or answers.partitions, keys=["prompt_id"])
    return stream.apply(rows, _best, pool, section=section).materialize()


def resolve_text_duplicates(entries: Rows, section: Curation, pool: Pool, *, partitions: int | None = None) -> Ref:
    """Return a reference to DISPOSITION of the rows that are dropped so far. One task holds about 120 bytes a row."""
    tasks = executor(pool)
    plan = dedup.plan(entries.count(), section.minhash, BEST_FIRST, parts=partitions)
    compute = partial(text_duplicates.signed, section=section)
    signatures = dedup.compute_signatures(entries.to_arrow_refs(), plan, tasks, compute=compute)
    duplicates = dedup.find_duplicates(signatures, plan, tasks).duplicates
    return gather.run(_resolve_text_duplicates, (entries, _DROPPED), duplicates=duplicates, section=section)


def embed(answers: LabelledCandidates, dropped: Ref, pool: Pool, *, section: Curation, encoder: Encoder) -> Rows:
    """Return EMBEDDED of the rows that are not dropped. They are read on `pool`; each actor of the encoder loads the model once."""
    columns = [
        "answer_id", "prompt_id", "text", "task_unit", "layer", "difficulty", "scenario", "confidence", "agreement", "answer",
        "logprob", "tokens_out", *SIGNALS,
    ]  # fmt: skip
    rows = stream.apply(answers.scan(pool, columns), _not_dropped, pool, dropped=[dropped])
    return encoder.embed(rows, CurationEmbedder, parts=tuple(section.decontaminate.similarity)).materialize()


def embed_protected(protected: Rows, encoder: Encoder) -> Rows:
    """Return PROTECTED with `embedding`."""
    return encoder.embed(protected, TextEmbedder).materialize()


def decide_all(entries: Rows, dropped: Ref, embedded: Rows | None, protected: Rows, section: Curation) -> Decisions:
    """Return the dispositions of all rows. One task holds about 2 KB a row, and 2 KB a protected text if it is embedded."""
    columns = PROTECTED_EMBEDDED if section.decontaminate.similarity else ngram_index.PROTECTED
    wholes = ((entries, ENTRY), (embedded, EMBEDDED), (protected, columns))
    dispositions, metrics = gather.run(_decide_all, *wholes, returns=2, dropped=dropped, section=section)
    return Decisions(dispositions, get(metrics))


def write_picked(answers: LabelledCandidates, dispositions: Ref, pool: Pool, folder: Folder) -> stream.Written:
    """Write every candidate as PICKED, kept or dropped."""
    rows = stream.apply(answers.scan(pool), with_dispositions, pool, dispositions=[dispositions])
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
    out = get(dropped[0])["answer_id"].combine_chunks()
    rows = rows.filter(pc.invert(pc.is_in(rows["answer_id"], out)))
    for name in ("confidence", "agreement"):
        rows = rows.set_column(rows.column_names.index(name), name, pc.fill_null(rows[name], -1.0))
    rows = rows.append_column("length", pc.cast(pc.utf8_length(rows["answer"]), pa.int64()))
    mean_nll = pc.divide(pc.negate(rows["logprob"]), pc.cast(pc.max_element_wise(rows["tokens_out"], 1), pa.float32()))
    rows = rows.append_column("mean_nll", mean_nll).drop_columns(["logprob", "tokens_out"])
    return rows.sort_by("prompt_id")  # so that a batch holds the same texts for any order of the input


def _resolve_text_duplicates(entries: pa.Table, duplicates: list[Ref], section: Curation) -> pa.Table:
    return text_duplicates.resolve(entries, get(duplicates), section)


def _decide_all(
    entries: pa.Table, embedded: pa.Table, protected: pa.Table, dropped: pa.Table, section: Curation
) -> tuple[pa.Table, DecisionMetrics]:
    decided = decide(embedded, section, protected if section.decontaminate.similarity else None)
    dispositions = follow(pa.concat_tables([dropped, decided.dispositions]))
    kept = entries.filter(pc.invert(pc.is_in(entries["answer_id"], dropped_ids(dispositions))))
    rows, kept_ids = pa.concat_tables([contamination_of(entries), decided.contamination]), kept["answer_id"].combine_chunks()
    metrics = DecisionMetrics(
        clusters=decided.clusters,
        coverage=coverage(entries, dispositions),
        selection=decided.selection,
        decontamination=contamination.summary(rows, kept_ids, protected, section.decontaminate),
        weights=weights(kept, dispositions, section.pick.balance),
    )
    return dispositions, metrics


def with_dispositions(rows: pa.Table, dispositions: list[Ref]) -> pa.Table:
    table: pa.Table = get(dispositions[0])
    mine = table.take(pc.index_in(rows["answer_id"], table["answer_id"].combine_chunks()))
    columns = {name: pc.fill_null(mine[name], KEPT[name]) if name in KEPT else mine[name] for name in DISPOSITION.names[1:]}
    return add(rows.select(CANDIDATE.names), PICKED, columns)


def with_refs(rows: pa.Table, function: Callable[..., pa.Table], refs: list[Ref], **options: Any) -> pa.Table:
    return function(rows, *map(get, refs), **options)


_DROPPED = pa.schema([ENTRY.field(name) for name in ("answer_id", "dropped_by", "duplicate_of", "similarity")])
PROTECTED_EMBEDDED = grow(ngram_index.PROTECTED, ("embedding", pa.list_(pa.float32())))
