"""Deduplication of a corpus from files to files, on any executor.

OUTPUT/part-00000.parquet ...           the rows that stay, in the order and with the columns of the input, and nothing else
__dedup__/OUTPUT/duplicates.parquet     beside OUTPUT: id, duplicate_of (the row that stays), similarity, method
__dedup__/OUTPUT/rejects/...            rows of the input that cannot be read (corpus.REJECTS), if there are any
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import methodcaller
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.contract.prompts import Normalization
from engine.dedup import flow, index, representatives
from engine.dedup.corpus import Block, Corpus, open_corpus, read_all, type_of
from engine.dedup.index import Index, Stored, open_index
from engine.dedup.minhash import bands
from engine.dedup.representatives import DUPLICATE, Direction, Order
from engine.dedup.semantic import NPROBE
from engine.dedup.signature import LENGTH, Documents, Matcher, ReadOptions, SemanticMatcher, SignedBlock
from engine.distributed.executor import Executor
from engine.errors import InputError
from engine.readers.formats import Damaged
from engine.readers.schemas import plain
from engine.records.dedup import DedupCounts, IndexRecipe
from engine.storage.artifact import RowCounts, require_conserved
from engine.storage.folder import Folder

DIMENSIONS = 384  # of most small sentence-transformers models; only the estimated memory depends on it
BYTES_BESIDE = 120  # of a row in memory, beside its signature
LENGTHS: dict[str, tuple[str, Direction]] = {"shortest": (LENGTH, "ascending"), "longest": (LENGTH, "descending")}

Source = Documents | Stored


@dataclass(frozen=True)
class Columns:
    """The columns of a corpus that deduplication uses, and how its texts are read."""

    text: str = "text"
    id: str | None = None  # None: `id` if there is such a column, else file and row
    keep: tuple[str, ...] = ()  # columns by which the row to keep is chosen, the highest first; or `longest`, `shortest`
    normalization: Normalization = "nfc"  # form in which texts are equal; that of a MinHash matcher, too
    damaged: Damaged = "refuse"
    thorough: bool = False  # see corpus.open_corpus
    text_ids: bool = False  # see ReadOptions


@dataclass(frozen=True)
class DedupJob:
    """A deduplication whose inputs have been validated."""

    corpus: Corpus
    sources: list[Source]  # of the index, of `against`, and of the corpus: earlier batches first
    plan: flow.Plan
    index: Index | None
    batch: int  # number of the corpus's batch
    rows: int  # of all sources

    @property
    def first(self) -> int:
        """Number of the corpus's first block among the sources."""
        return len(self.sources) - len(self.corpus.blocks)

    @property
    def bytes(self) -> int:
        """About the bytes of the signatures of all sources, and of what tasks compute from them."""
        matcher, per_row = self.plan.matcher, 80
        if isinstance(matcher, SemanticMatcher):
            per_row += 4 * DIMENSIONS * (1 + NPROBE)
        elif matcher:
            per_row += 4 * matcher.num_perm + 8 * bands(matcher).bands
        return self.rows * per_row

    @property
    def bytes_in_memory(self) -> int:
        """About the bytes that `in_memory` holds: no band keys, and nothing that travels."""
        assert not isinstance(self.plan.matcher, SemanticMatcher)
        return self.rows * (BYTES_BESIDE + (4 * self.plan.matcher.num_perm if self.plan.matcher else 0))


def open_job(
    source: str,
    columns: Columns,
    matcher: Matcher,
    *,
    against: str | None = None,
    index: Folder | None = None,
    at_once: int = 1,
) -> DedupJob:
    """Return the job that deduplicates the corpus at `source`, against another corpus and an index if they are given.

    `at_once` is the number of tasks that run at the same time.

    Raises:
        InputError: a corpus cannot be used: no rows, a missing column, mixed or different columns, an unreadable file.
        RecipeMismatch: the index was made with other settings.
        StorageError: the index is damaged.
    """
    corpus, options, order = _read_options(source, columns, matcher)
    kinds = _column_types(corpus, options)
    kept = open_index(index, *_recipe(matcher, columns, kinds)) if index else None
    sources: list[Source] = [*kept.parts()] if kept else []
    batch, rows = (len(kept.batches), kept.rows) if kept else (0, 0)
    if against:
        other, its_options, _ = _read_options(against, columns, matcher)
        if (its_kinds := _column_types(other, its_options)) != kinds:
            raise InputError(f"{against}: found {its_kinds}, expected {kinds} as in {source}. Convert one of them first.")
        sources += [Documents(block, its_options, -1, False) for block in other.blocks]
        rows += other.rows
    sources += [Documents(block, options, batch, True) for block in corpus.blocks]
    rows += corpus.rows
    return DedupJob(corpus, sources, flow.plan(rows, matcher, order, at_once=at_once), kept, batch, rows)


def run(job: DedupJob, folder: Folder, side: Folder, executor: Executor, signers: Executor) -> tuple[DedupCounts, list[str]]:
    """Write the rows that stay into `folder` and the tables beside them into `side`; return the counts, and the names of the parts
    for the index ([] without one).

    `signers` compute the signatures, `executor` does the rest.

    Raises:
        InputError: an id occurs twice, or a file cannot be read.
        SchemaDrift: a row of JSONL does not fit the columns of the first rows; `Columns.thorough` looks at all.
        IdsMissing: a row has no id, and ids are no text; `Columns.text_ids` lets file and row be its id.
    """
    signatures = flow.compute_signatures(job.sources, job.plan, signers, compute=methodcaller("signed"))
    _refuse_repeated_ids(signatures, job, executor)
    result = flow.find_duplicates(signatures, job.plan, executor)
    signed = list(zip(signatures.rows, signatures.text_keys, signatures.signatures, strict=True))[job.first :] if job.index else []
    del signatures  # the largest part of the memory
    first, blocks = job.first, job.corpus.blocks
    names = [f"part-{number:05d}.parquet" for number in range(len(blocks))]
    written = [
        executor.start(_write, blocks[number], job.corpus.schema, first + number, (folder, side), name, *result.positions)[0]
        for number, name in enumerate(names)
    ]
    listed = executor.start(_write_duplicates, side, job.batch, *result.duplicates)[0]
    duplicates, rows = executor.fetch(listed), executor.fetch(written)
    rejected = sum((bad for *_, bad in rows), Counter[str]())
    total, kept = sum(total for total, *_ in rows), sum(kept for _, kept, _ in rows)
    counts = DedupCounts(rows=total, kept=kept, duplicates=duplicates, rejected=dict(sorted(rejected.items())))
    require_conserved(RowCounts(total, {"kept": kept, **duplicates, **counts.rejected}), folder.url)
    if not job.index:
        return counts, []
    stored = [
        executor.start(_store, first + number, job.index.next, name, *signed[number], *result.positions)[0]
        for number, name in enumerate(names)
    ]
    executor.fetch(stored)
    return counts, names


def _read_options(source: str, columns: Columns, matcher: Matcher) -> tuple[Corpus, ReadOptions, Order]:
    """Return the corpus at `source`, how it is read, and the order of its documents."""
    keep_by = [LENGTHS.get(name, (name, "descending")) for name in columns.keep]
    required = {"--text-column": columns.text, "--id-column": columns.id}
    required |= {f"--keep {name}": name for name in columns.keep if name not in LENGTHS}
    corpus = open_corpus(
        source, {option: name for option, name in required.items() if name}, damaged=columns.damaged, thorough=columns.thorough
    )
    kind = type_of(corpus.schema, columns.text)
    if kind is None or not _is_text(kind):
        raise InputError(f"{source}: column {columns.text!r} is {kind}, expected text or numbers. Name another with --text-column.")
    id_column = columns.id or ("id" if "id" in corpus.schema.names else None)
    stored: list[tuple[str, Direction]] = [(f"by {number}", direction) for number, (_, direction) in enumerate(keep_by)]
    order: Order = [("batch", "ascending"), *stored, ("id" if id_column else "position", "ascending")]
    by = tuple(name for name, _ in keep_by)
    return corpus, ReadOptions(corpus.schema, columns.text, id_column, by, matcher, columns.normalization, columns.text_ids), order


def _is_text(kind: pa.DataType) -> bool:
    """Return whether the values are text, or can be compared as text, like numbers."""
    try:
        return "binary" not in str(kind) and pa.array([], kind).cast(pa.large_string()) is not None
    except pa.ArrowNotImplementedError:
        return False


def _column_types(corpus: Corpus, options: ReadOptions) -> dict[str, str]:
    """Return the types of the ids and of the columns of the order; all forms of text are one."""
    kinds = {"id": options.id, **{name: name for name in options.keep_by if name != LENGTH}}
    found = {title: type_of(corpus.schema, name) if name else None for title, name in kinds.items()}
    types = {title: str(plain(kind)) if kind else "string" for title, kind in found.items()}
    return types | ({"id": "string"} if options.text_ids else {})


def _recipe(matcher: Matcher, columns: Columns, kinds: dict[str, str]) -> tuple[IndexRecipe, str]:
    """Return the recipe of an index, and the NumPy type of its signatures."""
    if isinstance(matcher, SemanticMatcher):
        settings, kind = {"model": matcher.folder.name, "threshold": matcher.threshold}, "float32"
    else:
        settings, kind = matcher and matcher.model_dump(mode="json", exclude={"normalization", "max_df"}), "uint32"
    recipe = {"version": index.VERSIONS[kind], "matcher": settings, "keep": columns.keep, "columns": kinds}
    return IndexRecipe.model_validate(recipe | {"normalization": columns.normalization}), kind


def _refuse_repeated_ids(signatures: flow.Signatures, job: DedupJob, executor: Executor) -> None:
    hashes = [executor.start(representatives.id_hashes, rows)[0] for rows in signatures.rows]
    if (repeated := executor.fetch(executor.start(representatives.repeated_hash, *hashes)[0])) is None:
        return
    ids = executor.fetch(
        [executor.start(_id_of, rows, of_block, repeated)[0] for rows, of_block in zip(signatures.rows, hashes, strict=True)]
    )
    name = next(name for name in ids if name is not None)
    raise InputError(
        f"{job.corpus.path}: found the id {name!r} more than once (in the input, --against "
        "and index), expected it once. Give another --id-column, or a corpus that has not been added yet."
    )


def _id_of(rows: pa.Table, hashes: np.ndarray, repeated: int) -> Any:
    at = np.flatnonzero(hashes == np.uint64(repeated))
    ids = rows["id"].slice(int(at[0]), 1) if len(at) else None
    if ids is not None and pa.types.is_temporal(ids.type):
        ids = ids.cast(pa.string())  # without pandas a time with nanoseconds is no Python value
    return ids[0].as_py() if ids is not None else None


def _lost(number: int, positions: Sequence[np.ndarray]) -> np.ndarray:
    """Return the rows of block `number` that do not stay."""
    first, end = np.uint64(number << 32), np.uint64((number + 1) << 32)
    mine = [part[slice(*np.searchsorted(part, [first, end]))] for part in positions]
    return (np.concatenate(mine) - first).astype(np.int64)


def _write(
    block: Block, schema: pa.Schema, number: int, places: tuple[Folder, Folder], name: str, *positions: np.ndarray
) -> tuple[int, int, Counter[str]]:
    """Write the rows of a block that stay into the first of `places`, and those that cannot be read into the second.

    Return the number of its rows, and of those that stay, and reason -> rows that cannot be read.
    """
    folder, side = places
    rows, rejects = read_all(block, schema, schema.names)
    stays = np.ones(len(rows), bool)
    stays[_lost(number, positions)] = False
    kept = rows.filter(pa.array(stays))
    if len(kept):
        folder.write(name, _parquet(kept))
    if len(rejects):
        side.write(f"rejects/{name}", _parquet(rejects))
    return len(rows) + len(rejects), len(kept), Counter(rejects["reason"].to_pylist())


def _write_duplicates(folder: Folder, batch: int, *duplicates: pa.Table) -> dict[str, int]:
    """Write the table of duplicates; return method -> rows of `batch`."""
    every = pa.concat_tables(duplicates)
    folder.write("duplicates.parquet", _parquet(every.select(list(DUPLICATE))))
    mine = every.filter(pc.equal(every["batch"], batch))["method"].combine_chunks()
    counts = {pair["values"]: pair["counts"] for pair in pc.value_counts(mine).to_pylist()}
    return dict(sorted(counts.items()))


def _store(
    number: int, folder: Folder, name: str, rows: pa.Table, text_keys: np.ndarray, signatures: np.ndarray, *positions: np.ndarray
) -> None:
    folder.write(name, index.part(SignedBlock(rows, text_keys, signatures), _lost(number, positions)))


def _parquet(table: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False, write_statistics=False)  # faster, and smaller
    return buffer.getvalue().to_pybytes()
