"""Curation on Ray, in parts: no task holds a text, a vector, an id or a disposition of every row.

Ids, keys, signatures and dispositions (120 bytes a row) travel between tasks, texts do not. A task gets all that grows with rows as
arguments, and of its own rows only:

    settle    each block of entries, which has every prompt whole, gets the copies among its rows
    embed     a task that reads a block of candidates gets the ids of those of its rows that are dropped
    finish    entries meet by ranges of prompt_id, as the shards of `decide_flow` are cut, with the shards of that range
    label     a task that reads a block of candidates gets the dispositions of that block (`answers.LabelledCandidates.by_block`)

What tasks still fetch themselves is the same for all of them: the index of the protected texts, the labels of persons, values of
`swaps`, and the rank up to which contrastive examples are kept.
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
from engine.curation.answers import BLOCK, LabelledCandidates, with_block
from engine.curation.dispositions import DISPOSITION, KEPT, Coverage, coverage, dropped_ids, follow, of_answers, total
from engine.curation.embedder import CurationEmbedder
from engine.curation.entries import ENTRY, READ, SETTLED, contamination_of
from engine.curation.entries import entries as make_entries
from engine.curation.measure import values_of, weights_of
from engine.curation.samples import BEST_FIRST, best
from engine.dedup import flow as dedup
from engine.dedup.embedder import AT_ONCE, TextEmbedder
from engine.dedup.plan import MOST_PARTS, pieces
from engine.distributed import gather, stream
from engine.distributed.executor import Executor
from engine.distributed.in_process import executor, get, put
from engine.distributed.rows import Ref, Rows
from engine.inference.weights import Weights
from engine.records.dataset import DecisionMetrics
from engine.rows import CANDIDATE, EMBEDDING, PICKED, add, grow
from engine.storage.folder import Folder

ID_BYTES = 44  # of an answer_id, with the number of its block


class Decisions(NamedTuple):
    """The dispositions of all rows, in the object store, and their metrics."""

    dispositions: list[Ref]  # a part for each block of candidates, with its rows of dispositions.DISPOSITION
    metrics: DecisionMetrics


class Entries(NamedTuple):
    """ENTRY of all candidates with BLOCK, in the object store; each block has its prompts whole."""

    blocks: list[Ref]
    rows: int


class Sharded(NamedTuple):
    """The protected texts, and the embedded rows in shards."""

    protected: Ref
    shards: decide_flow.Shards


class SettledBlock(NamedTuple):
    """Rows of ENTRY, and what is dropped of them so far."""

    entries: pa.Table  # SETTLED with BLOCK
    dropped: pa.Table  # DISPOSITION


class Settled(NamedTuple):
    """References to SettledBlock of each block of entries, and how many bytes and dropped rows each has."""

    blocks: list[Ref]
    sizes: list[tuple[int, int]]


class Encoder(NamedTuple):
    """The sentence-transformers model and its pool."""

    folder: Weights
    pool: Pool

    def embed(self, rows: Rows, actor: type, **options: Any) -> Rows:
        """Return `rows` as the class `actor` embeds them; each actor of the pool loads the model once."""
        device = "cuda" if self.pool.gpus else "cpu"
        return stream.apply(rows, actor, self.pool, batch=AT_ONCE, folder=self.folder, device=device, **options)


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
    rows = answers.scan(answers.numbers(), _entries, pool, READ, index=index, section=section)
    if encoder and section.answers and section.answers.similarity is not None:
        rows = encoder.embed(rows, TextEmbedder, text="answer")
    rows = rows.repartition(partitions or answers.partitions, keys=["prompt_id"])
    rows = stream.apply(rows, _best, pool, section=section).materialize()
    return Entries(rows.to_arrow_refs(), rows.count())


def resolve_text_duplicates(entries: Entries, section: Curation, pool: Pool, *, partitions: int | None = None) -> Settled:
    """Return what is dropped so far, block by block of `entries`, which are not needed any more."""
    tasks, blocks = executor(pool), entries.blocks
    plan = dedup.plan(entries.rows, section.minhash, BEST_FIRST, parts=partitions)
    compute = partial(text_duplicates.signed, section=section)
    signatures = dedup.compute_signatures(blocks, plan, tasks, compute=compute)
    copies = dedup.by_block(dedup.find_duplicates(signatures, plan, tasks), len(blocks), tasks)
    parts = zip(blocks, copies, strict=True)
    settled = [tasks.start(_resolve_text_duplicates, section, block, *mine, returns=2) for block, mine in parts]
    return Settled([block for block, _ in settled], tasks.fetch([sizes for _, sizes in settled]))


def embed(answers: LabelledCandidates, settled: Settled, pool: Pool, *, section: Curation, encoder: Encoder) -> Rows:
    """Return EMBEDDED of the rows that are not dropped. They are read on `pool`; each actor of the encoder loads the model once."""
    columns = [
        "answer_id", "prompt_id", "text", "task_unit", "layer", "difficulty", "scenario", "confidence", "agreement", "answer",
        "logprob", "tokens_out", *SIGNALS,
    ]  # fmt: skip
    ids = ID_BYTES * sum(dropped for _, dropped in settled.sizes)
    rows = answers.scan(answers.by_block(settled.blocks, ids, executor(pool), of=_dropped), _not_dropped, pool, columns)
    return encoder.embed(rows, CurationEmbedder, parts=tuple(section.decontaminate.similarity)).materialize()


def embed_protected(protected: Rows, encoder: Encoder) -> Rows:
    """Return PROTECTED with `embedding`."""
    return encoder.embed(protected, TextEmbedder).materialize()


def shards_of(blocks: list[Ref], rows: int, protected: Rows, section: Curation, pool: Pool) -> Sharded:
    """Return the `rows` rows of EMBEDDED in `blocks` in shards. With the vectors they are 2 KB each, so `blocks` is emptied, and
    nothing else should refer to them.

    Tasks hold 2 KB a protected text if it is compared by embedding.
    """
    compares = bool(section.decontaminate.similarity)
    texts = gather.run(_itself, (protected, PROTECTED_EMBEDDED if compares else PROTECTED_NAMES))
    compared = texts if compares else put(ngram_index.PROTECTED.empty_table())
    return Sharded(texts, decide_flow.shards_of(blocks, rows, compared, section, executor(pool)))


def decide_all(answers: LabelledCandidates, settled: Settled, sharded: Sharded, section: Curation, pool: Pool) -> Decisions:
    """Return the dispositions of all rows, as in `decide_flow`."""
    tasks, texts = executor(pool), sharded.protected
    decided = decide_flow.decide_all(sharded.shards, section, tasks, at_once=pool.actors)
    parts = _by_range(settled, decided, tasks)
    finished = [tasks.start(_finish, section, len(mine), *mine, *shards, returns=3) for mine, shards in parts]
    tables, counts, sizes = ([of_range[number] for of_range in finished] for number in range(3))
    summary = ((), None) if decided.summary is None else decided.summary
    [metrics] = tasks.start(_metrics, section, texts, summary, len(counts), *counts, *decided.resemblance)
    return Decisions(answers.by_block(tables, sum(tasks.fetch(sizes)), tasks), get(metrics))


def _by_range(settled: Settled, decided: decide_flow.Decided, tasks: Executor) -> list[tuple[list[Ref], list[Ref]]]:
    """Return for each range of prompt_ids references to the pieces of SettledBlock there, and to the dispositions of shards there.

    Without shards the ranges are the blocks as they are. There are at most as many ranges as blocks.
    """
    if not decided.dispositions:
        return [([block], []) for block in settled.blocks]
    total, most = sum(size for size, _ in settled.sizes), min(MOST_PARTS, len(settled.blocks))
    count = pieces(total, len(settled.blocks), most=most)
    if count == 1:
        return [(settled.blocks, decided.dispositions)]
    split = [tasks.start(_split, count, block, returns=count) for block in settled.blocks]
    return [([of_block[number] for of_block in split], decided.in_range(number, count)) for number in range(count)]


def write_picked(answers: LabelledCandidates, dispositions: list[Ref], pool: Pool, folder: Folder) -> stream.Written:
    """Write every candidate as PICKED, kept or dropped."""
    rows = answers.scan(dispositions, with_dispositions, pool)
    return stream.write(rows, stream.Target(folder, PICKED, label="dropped_by"), pool)


def write_embeddings(embedded: Rows, folder: Folder, pool: Pool) -> stream.Written:
    """Write the embeddings by prompt_id."""
    return stream.write(embedded.select_columns(EMBEDDING.names), stream.Target(folder, EMBEDDING), pool)


def _entries(rows: pa.Table, number: pa.Table, index: Ref, section: Curation) -> pa.Table:
    entries = make_entries(rows, get(index), section)
    return entries.append_column(BLOCK, pa.repeat(number[BLOCK][0], len(entries)))


def _best(entries: pa.Table, section: Curation) -> pa.Table:
    return best(entries, section.answers).select([*ENTRY.names, BLOCK])


def _dropped(block: SettledBlock) -> pa.Table:
    return with_block(block.dropped.select(["answer_id"]), block.entries)


def _not_dropped(rows: pa.Table, dropped: pa.Table) -> pa.Table:
    rows = rows.filter(pc.invert(pc.is_in(rows["answer_id"], dropped["answer_id"].combine_chunks())))
    for name in ("confidence", "agreement"):
        rows = rows.set_column(rows.column_names.index(name), name, pc.fill_null(rows[name], -1.0))
    rows = rows.append_column("length", pc.cast(pc.utf8_length(rows["answer"]), pa.int64()))
    mean_nll = pc.divide(pc.negate(rows["logprob"]), pc.cast(pc.max_element_wise(rows["tokens_out"], 1), pa.float32()))
    rows = rows.append_column("mean_nll", mean_nll).drop_columns(["logprob", "tokens_out"])
    return rows.sort_by("prompt_id")  # so that a batch holds the same texts for any order of the input


def _resolve_text_duplicates(
    section: Curation, entries: pa.Table, *duplicates: pa.Table
) -> tuple[SettledBlock, tuple[int, int]]:  # fmt: skip
    settled, dropped = entries.select([*SETTLED.names, BLOCK]), text_duplicates.resolve(entries, duplicates, section)
    return SettledBlock(settled, dropped), (settled.nbytes + dropped.nbytes, len(dropped))


def _split(count: int, block: SettledBlock) -> list[SettledBlock]:
    """Return the rows of a block in each of `count` ranges of prompt_id, two or more."""
    entries, dropped = block
    at = decide_flow.range_numbers(entries["prompt_id"], count)
    at_dropped = at[pc.index_in(dropped["answer_id"], entries["answer_id"].combine_chunks()).to_numpy()]
    masks = ((pa.array(at == number), pa.array(at_dropped == number)) for number in range(count))
    return [SettledBlock(entries.filter(mine), dropped.filter(of_dropped)) for mine, of_dropped in masks]


class BlockCounts(NamedTuple):
    """What the metrics need of a block of entries."""

    coverage: Coverage
    values: Counter[str]  # of the balanced stratum, of kept rows
    resemblance: contamination.Resemblance


def _itself(table: pa.Table) -> pa.Table:
    return table


def _finish(section: Curation, count: int, *parts: Any) -> tuple[pa.Table, BlockCounts, int]:
    """Return DISPOSITION with BLOCK of rows that have every prompt whole, their counts, and the bytes of the table.

    `parts` are `count` SettledBlock, and then DISPOSITION of all shards that have a row of them.
    """
    entries, dropped = (pa.concat_tables(tables) for tables in zip(*parts[:count], strict=True))
    dispositions = follow(pa.concat_tables([dropped, of_answers(entries["answer_id"], parts[count:])]))
    kept = entries.filter(pc.invert(pc.is_in(entries["answer_id"], dropped_ids(dispositions))))
    resemblance = contamination.counted(contamination_of(entries), kept["answer_id"].combine_chunks())
    values = values_of(kept, dispositions, section.pick.balance)
    table = with_block(dispositions, entries)
    return table, BlockCounts(coverage(entries, dispositions), values, resemblance), table.nbytes


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


def with_dispositions(rows: pa.Table, dispositions: pa.Table) -> pa.Table:
    """Return PICKED of CANDIDATE rows; `dispositions` is DISPOSITION of those that have one."""
    mine = dispositions.take(pc.index_in(rows["answer_id"], dispositions["answer_id"].combine_chunks()))
    columns = {name: pc.fill_null(mine[name], KEPT[name]) if name in KEPT else mine[name] for name in DISPOSITION.names[1:]}
    return add(rows.select(CANDIDATE.names), PICKED, columns)


def with_refs(rows: pa.Table, function: Callable[..., pa.Table], refs: list[Ref], **options: Any) -> pa.Table:
    """Call `function` with what `refs` refer to, which is the same for all tasks: each fetches it once, as it travels in a list."""
    return function(rows, *map(get, refs), **options)


PROTECTED_NAMES = pa.schema([field for field in ngram_index.PROTECTED if field.name != "text"])
PROTECTED_EMBEDDED = grow(PROTECTED_NAMES, ("embedding", pa.list_(pa.float32())))
