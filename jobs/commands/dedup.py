"""`rayleigh dedup`: rows of any Parquet or JSONL in, those that are no copy of another out.

    OUTPUT/part-00000.parquet ...   the rows that stay, in the order and with the columns of the input
    OUTPUT/duplicates.parquet       id, rep (what stays in its stead), similarity, method
    OUTPUT/summary.json             what the command prints; it lands last

The folder appears under its name when it is whole; behind a URL it is whole once the summary is there.
"""

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.contract import Profile, load_profile
from engine.contract.curation import Semantic
from engine.contract.prompts import Copies
from engine.dedup import flow, index, representatives
from engine.dedup.corpus import Block, Corpus, open_corpus, read
from engine.dedup.flow import Signatures
from engine.dedup.index import Index, Stored, open_index
from engine.dedup.minhash import bands
from engine.dedup.representatives import DUPLICATE, Order
from engine.dedup.semantic import REACH
from engine.dedup.signature import LENGTH, Documents, Matcher, Meaning, Reading, Signed
from engine.distributed.session import session
from engine.distributed.task_pool import TaskPool, fetch
from engine.errors import InputError, StorageError
from engine.inference.locate import locate
from engine.storage.artifact import ArtifactWriter, RowCounts
from engine.storage.shards import Folder
from jobs import workspace
from jobs.terminal.session import set_environment

SUMMARY = "summary.json"
THRESHOLDS = {"exact": 1.0, "minhash": 0.7, "semantic": 0.95}  # method -> from which similarity on, if nothing is said
DIMENSIONS = 384  # of most small sentence-transformers models; only the room that is asked for follows from it
NGRAM, NUM_PERM = 5, 112  # as most published corpora were deduplicated
LENGTHS: dict[str, tuple[str, Any]] = {"shortest": (LENGTH, "ascending"), "longest": (LENGTH, "descending")}
SLACK = 2.5  # of the object store over what is kept: what travels between tasks is there too
MOST_MEMORY = 0.3  # of the machine for the object store: what exceeds it goes to disk
ALLOCATOR = {  # of workers: they keep what one block took for the next one; else page faults are a sixth of all work
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(2 << 30),
}

Source = Documents | Stored


@dataclass(frozen=True)
class Options:
    """What the command was asked for."""

    text_column: str = "text"
    id_column: str | None = None
    threshold: float | None = None
    method: str = "minhash"
    model: str = Semantic().model
    keep: tuple[str, ...] = ()
    against: str | None = None
    index: str | None = None


def dedup(source: str, output: str, options: Options, *, profile: str = "laptop") -> dict[str, Any]:
    """Write what stays of `source` into `output`; return the summary.

    Raises:
        InputError: the input cannot be used: no rows, a missing column, mixed columns, ids that repeat, a file that is unreadable.
        StorageError: the output is not empty or cannot be written, or the index is damaged.
        RecipeMismatch: the index was made by another recipe.
    """
    if options.method not in THRESHOLDS:
        raise InputError(f"--method {options.method}: found {options.method!r}, expected one of {sorted(THRESHOLDS)}.")
    if options.threshold is None:
        options = replace(options, threshold=THRESHOLDS[options.method])
    started = time.time()
    writer = ArtifactWriter(workspace.run_folder(output))
    if writer.final.files():
        raise StorageError(f"{writer.final}: is not empty. Give a new folder, or delete this one.")
    writer.clear()
    used = load_profile(workspace.profile_path(profile))
    work = _open(source, options, device="cuda" if used.embedder.gpus else "cpu")
    set_environment(used)
    for name, value in ALLOCATOR.items():
        os.environ.setdefault(name, value)
    with session(_sized(used, work), data=False):
        found = _run(work, writer.folder, TaskPool(used.cpu), TaskPool(used.embedder if options.method == "semantic" else used.cpu))
    parts = found.pop("parts")
    summary = {"input": source, "output": writer.final.url, **asdict(options), **found, "seconds": round(time.time() - started, 2)}
    writer.folder.write(SUMMARY, json.dumps(summary, indent=1).encode())
    if writer.folder.url != writer.final.url:
        writer.folder.rename_to(writer.final)
    if work.index:
        work.index.add(parts, found["rows"])
    return summary


def as_text(found: dict[str, Any]) -> str:
    """Return a summary for a person."""
    lost = ", ".join(f"{rows:,} {method}" for method, rows in found["duplicates"].items()) or "none"
    return (
        f"{found['rows']:,} rows in, {found['kept']:,} kept, duplicates: {lost}\n"
        f"{found['seconds']:.1f} s, {found['rows'] / found['seconds']:,.0f} rows a second\n{found['output']}"
    )


@dataclass(frozen=True)
class Work:
    """What is to be done, once everything that was given has been looked at."""

    corpus: Corpus
    reading: Reading
    sources: list[Source]  # earlier ones first
    plan: flow.Plan
    index: Index | None
    batch: int  # of the corpus
    rows: int  # of all sources

    @property
    def first(self) -> int:
        """The number of the corpus's first block among the sources."""
        return len(self.sources) - len(self.corpus.blocks)


def _open(source: str, options: Options, *, device: str) -> Work:
    alike = _alike(options, device)
    corpus, reading, order = _read_as(source, options, alike)
    recipe = {"alike": _told(alike), "keep": options.keep, "columns": _columns(corpus, reading)}
    kind = "float32" if isinstance(alike, Meaning) else "uint32"
    kept = open_index(workspace.run_folder(options.index), recipe, kind=kind) if options.index else None
    sources: list[Source] = [*kept.parts()] if kept else []
    batch, rows = (len(kept.batches), kept.rows) if kept else (0, 0)
    if options.against:
        other, like, _ = _read_as(options.against, options, alike)
        if _columns(other, like) != _columns(corpus, reading):
            raise InputError(
                f"{options.against}: found {_columns(other, like)}, expected {_columns(corpus, reading)} as in {source}. "
                "Convert one of them first."
            )
        sources += [Documents(block, like, -1, False) for block in other.blocks]
        rows += other.rows
    sources += [Documents(block, reading, batch, True) for block in corpus.blocks]
    return Work(corpus, reading, sources, flow.plan(rows + corpus.rows, alike, order), kept, batch, rows + corpus.rows)


def _read_as(source: str, options: Options, alike: Matcher) -> tuple[Corpus, Reading, Order]:
    """Return the corpus at `source`, how it is read, and in which order its documents are kept."""
    by = [LENGTHS.get(name, (name, "descending")) for name in options.keep]
    wanted = {"--text-column": options.text_column, "--id-column": options.id_column}
    wanted |= {f"--keep {name}": name for name in options.keep if name not in LENGTHS}
    corpus = open_corpus(source, {option: name for option, name in wanted.items() if name})
    kind = corpus.schema.field(options.text_column).type
    if not _is_text(kind):
        raise InputError(
            f"{source}: column {options.text_column!r} is {kind}, expected text or numbers. Name another with --text-column."
        )
    known = options.id_column or ("id" if "id" in corpus.schema.names else None)
    wishes = [(f"by {number}", direction) for number, (_, direction) in enumerate(by)]
    order: Order = [("batch", "ascending"), *wishes, ("id" if known else "position", "ascending")]
    return corpus, Reading(corpus.schema, options.text_column, known, tuple(name for name, _ in by), alike), order


def _is_text(kind: pa.DataType) -> bool:
    """Return whether values are text, or such as numbers that are compared as they are written."""
    try:
        return "binary" not in str(kind) and pa.array([], kind).cast(pa.large_string()) is not None
    except pa.ArrowNotImplementedError:
        return False


def _alike(options: Options, device: str) -> Matcher:
    assert options.threshold is not None
    if options.method == "semantic":
        return Meaning(locate(options.model, root=".", home=workspace.models_home()), options.threshold, device)
    return Copies(threshold=options.threshold, ngram=NGRAM, num_perm=NUM_PERM) if options.method == "minhash" else None


def _told(alike: Matcher) -> Any:
    """What an index must have been made with."""
    if isinstance(alike, Meaning):
        return {"model": alike.folder.name, "threshold": alike.threshold}
    return alike and alike.model_dump(mode="json")


def _columns(corpus: Corpus, reading: Reading) -> dict[str, str]:
    """Return the type of the ids and of the columns by which a keeper is chosen."""
    kinds = {name: str(corpus.schema.field(name).type) for name in reading.by if name != LENGTH}
    return {"id": str(corpus.schema.field(reading.id).type) if reading.id else "string", **kinds}


def _sized(profile: Profile, work: Work) -> Profile:
    """Return `profile` with, for a Ray of our own, places for all tasks of a pool, and room for what is held at once."""
    alike, per_row = work.reading.alike, 80
    if isinstance(alike, Meaning):
        per_row += 4 * DIMENSIONS * (1 + REACH)
    elif alike:
        per_row += 4 * alike.num_perm + 8 * bands(alike).count
    room = min(work.rows * per_row * SLACK, psutil.virtual_memory().total * MOST_MEMORY) / 2**30
    places = max(1, *(math.ceil(pool.actors * pool.cpus) for pool in (profile.cpu, profile.embedder)))
    own = {"num_cpus": places, "object_store_gib": max(room, profile.ray.object_store_gib)}
    return profile.model_copy(update={"ray": profile.ray.model_copy(update=own)})


def _run(work: Work, folder: Folder, crew: TaskPool, signers: TaskPool) -> dict[str, Any]:
    """Return the counts of the summary, and the names of the parts for the index."""
    held = flow.sign(work.sources, work.plan, signers, how=_sign)
    _refuse_repeated(held, work, crew)
    found = flow.find(held, work.plan, crew)
    first, blocks = work.first, work.corpus.blocks
    names = [f"part-{number:05d}.parquet" for number in range(len(blocks))]
    kept = [
        crew.start(_write, blocks[number], work.corpus.schema, first + number, folder, name, *found.places)[0]
        for number, name in enumerate(names)
    ]
    listed = crew.start(_list, folder, work.batch, *found.duplicates)[0]
    counts, rows = fetch(listed), fetch(kept)
    RowCounts(sum(total for total, _ in rows), {"kept": sum(stay for _, stay in rows), **counts}).check(folder.url)
    result = {"rows": sum(total for total, _ in rows), "kept": sum(stay for _, stay in rows), "duplicates": counts, "parts": []}
    if work.index:
        signed = list(zip(held.rows, held.text, held.minima, strict=True))[first:]
        stored = [
            crew.start(_store, first + number, work.index.next, name, *signed[number], *found.places)[0]
            for number, name in enumerate(names)
        ]
        fetch(stored)
        result["parts"] = names
    return result


def _refuse_repeated(held: Signatures, work: Work, crew: TaskPool) -> None:
    hashes = [crew.start(representatives.hashed, rows)[0] for rows in held.rows]
    if (wanted := fetch(crew.start(representatives.repeated, *hashes)[0])) is None:
        return
    names = fetch([crew.start(_named, rows, ids, wanted)[0] for rows, ids in zip(held.rows, hashes, strict=True)])
    repeated = next(one for one in names if one is not None)
    raise InputError(
        f"{work.corpus.path}: found the id {repeated!r} more than once (in the input, --against and index), expected it once. "
        "Give another --id-column, or a corpus that has not been added yet."
    )


def _named(rows: pa.Table, hashes: np.ndarray, wanted: int) -> Any:
    at = np.flatnonzero(hashes == np.uint64(wanted))
    return rows["id"][int(at[0])].as_py() if len(at) else None


def _sign(source: Source) -> Signed:
    return source.sign()


def _lost(number: int, places: Sequence[np.ndarray]) -> np.ndarray:
    """Return the rows of block `number` that do not stay."""
    first, end = np.uint64(number << 32), np.uint64((number + 1) << 32)
    mine = [part[slice(*np.searchsorted(part, [first, end]))] for part in places]
    return (np.concatenate(mine) - first).astype(np.int64)


def _write(block: Block, schema: pa.Schema, number: int, folder: Folder, name: str, *places: np.ndarray) -> tuple[int, int]:
    """Write the rows of a block that stay; return how many it has and how many stay."""
    rows = read(block, schema, schema.names)
    stays = np.ones(len(rows), bool)
    stays[_lost(number, places)] = False
    kept = rows.filter(pa.array(stays))
    if len(kept):
        folder.write(name, _parquet(kept))
    return len(rows), len(kept)


def _list(folder: Folder, batch: int, *duplicates: pa.Table) -> dict[str, int]:
    """Write the table of duplicates; return how many rows of `batch` each method found."""
    every = pa.concat_tables(duplicates)
    folder.write("duplicates.parquet", _parquet(every.select(list(DUPLICATE))))
    mine = every.filter(pc.equal(every["batch"], batch))["method"].combine_chunks()
    counts = {one["values"]: one["counts"] for one in pc.value_counts(mine).to_pylist()}
    return dict(sorted(counts.items()))


def _store(number: int, folder: Folder, name: str, rows: pa.Table, text: np.ndarray, minima: np.ndarray, *places: Any) -> None:
    folder.write(name, index.part(Signed(rows, text, minima), _lost(number, places)))


def _parquet(table: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False, write_statistics=False)  # faster, and smaller
    return buffer.getvalue().to_pybytes()
