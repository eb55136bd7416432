"""Ray tasks of this room: files are read in parallel, copies are found by one shuffle of keys, and the driver gets counts only."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.profile import Pool
from engine.contract.prompts import Prompts
from engine.distributed import stream
from engine.distributed.executor import Executor, returned
from engine.distributed.in_process import executor, put
from engine.distributed.rows import Ref, Rows
from engine.prompts import files as files_of
from engine.prompts import quota, resolve_flow, tables
from engine.prompts.earlier import Earlier, is_seed, known, with_holdout_first
from engine.prompts.files import SourceFile, with_counts
from engine.prompts.quota import PARENT, QuotaKey, QuotaRequest
from engine.prompts.redact import redact
from engine.prompts.resolve_flow import Resolution
from engine.prompts.sources import INGESTED, identify, prompts
from engine.prompts.synthesizer import Synthesizer, SynthesizerSpec
from engine.prompts.withdrawn import withdraw
from engine.rows import Row
from engine.storage.folder import Folder

BYTES_PER_TASK = 8 << 20  # each task costs a worker process and the import of the recognizers, about 5 s of a CPU
FETCHED_AT_ONCE = 1_000  # tables of counts, a few KB each


class Assigned(NamedTuple):
    """Seeds of the prompts that will be written."""

    asks: Ref  # quota.ASK, with the number of the block that has the seed
    counts: dict[QuotaKey, int]  # asks
    blocks: list[int]  # numbers of the blocks that have a seed, ascending


def read(files: Sequence[SourceFile], section: Prompts, pool: Pool, earlier: Sequence[Earlier] = ()) -> Rows:
    """Return the rows of `files` as INGESTED, redacted and identified, and the `earlier` prompts. A task reads one file, or several
    small ones.

    The rows stay in the object store, which spills to disk. The rows of sources with `take` are counted first, by tasks as well.
    """
    counts: dict[int, int] = {}
    if any(file.take for file in files):
        for row in stream.apply(_indices(files), _count_rows, pool, files=list(files)).iter_rows():
            counts[row["file"]] = row["rows"]
    counted = with_counts(list(files), {files[index].number: rows for index, rows in counts.items()})
    rows = stream.apply(_indices(files), _ingest, pool, files=counted, section=section).materialize()
    if not earlier:
        return rows
    numbers = stream.from_items([{"run": index} for index in range(len(earlier))], len(earlier))
    return rows.union(stream.apply(numbers, _known, pool, earlier=list(earlier), section=section).materialize())


def require_columns(rows: Rows, files: Sequence[SourceFile], pool: Pool) -> None:
    """Check INGESTED of `files`. Raises InputError if no row of a source has a column that is mapped."""
    check_columns(count_of(stream.apply(rows, tables.count_columns, pool).iter_rows()), files)


def count_rejects(rows: Rows, pool: Pool) -> dict[str, Counter[str]]:
    """Return what `tables.count_rejects` counts of INGESTED: kind -> value -> rows."""
    return count_of(stream.apply(rows, tables.count_rejects, pool).iter_rows())


def check_columns(counts: Mapping[str, Mapping[str, int]], files: Sequence[SourceFile]) -> None:
    """Check the result of `count`. Raises InputError if no row of a source has a column that is mapped."""
    pairs = ((value.split("|", 1), rows) for value, rows in counts.get("missing", {}).items())
    missing = {(int(number), name): rows for (number, name), rows in pairs}
    files_of.require_columns(list(files), {int(number): rows for number, rows in counts.get("readable", {}).items()}, missing)


def resolve(rows: Rows, section: Prompts, pool: Pool, *, rounds: int = 0, partitions: int | None = None) -> Resolution:
    """Return the resolution of INGESTED with `rounds` of synthesis, see `resolve_flow`."""
    blocks = rows.to_arrow_refs() or [put(INGESTED.empty_table())]
    return resolve_flow.resolve(blocks, rows.count(), section, executor(pool), rounds=rounds, parts=partitions)


def assign(resolution: Resolution, requests: Sequence[QuotaRequest], done: Mapping[str, int], pool: Pool) -> Assigned:
    """Choose the seeds for each request. One task holds about 100 bytes a seed, and no text."""
    tasks = executor(pool)
    parents = _labelled(resolution, _parents, tasks, {number: number for number in range(len(resolution.blocks))})
    asks, *known = tasks.start(_assign, list(requests), dict(done), *parents, returns=3)
    return Assigned(asks, *tasks.fetch(known))


def synthesize(resolution: Resolution, assigned: Assigned, specs: Sequence[SynthesizerSpec], pool: Pool) -> Rows:
    """Return WRITTEN: every synthesizer writes what is asked of its syntheses."""
    written, tasks, numbers = [], executor(pool), assigned.blocks
    for spec in specs:
        num_asks = sum(count for (title, _), count in assigned.counts.items() if title in spec.numbers)
        blocks = min(200, math.ceil(num_asks / spec.pool.batch))
        if not blocks:
            continue
        asks = tasks.start(_asks_by_block, numbers, list(spec.numbers), spec.pool.batch, assigned.asks, returns=len(numbers))
        shown = stream.of_refs(_labelled(resolution, _shown, tasks, dict(zip(numbers, asks, strict=True))))
        shown = shown.repartition(blocks, keys=["batch"])
        writers = spec.pool.at_most(blocks)
        written.append(stream.apply(shown, Synthesizer, writers, spec=spec))
    first, *others = written
    return (first.union(*others) if others else first).materialize()


def tokens(written: Rows, pool: Pool) -> Counter[str]:
    """Return the sums of `tokens_in` and `tokens_out`."""
    totals: Counter[str] = Counter()
    for row in stream.apply(written, _tokens, pool).iter_rows():
        totals.update(row)
    return totals


def join(rows: Rows, written: Rows, section: Prompts, pool: Pool) -> Rows:
    """Return INGESTED and WRITTEN as one dataset, with WRITTEN redacted and identified too."""
    return rows.union(stream.apply(written, _admit, pool, section=section).materialize())


def count(resolution: Resolution, pool: Pool) -> dict[str, Counter[str]]:
    """Return kind -> value -> rows, see `tables.count`."""
    tasks = executor(pool)
    refs = _labelled(resolution, tables.count, tasks)
    slices = (refs[start : start + FETCHED_AT_ONCE] for start in range(0, len(refs), FETCHED_AT_ONCE))
    return count_of(row for some in slices for of_block in tasks.fetch(some) for row in of_block.to_pylist())


def count_of(counts: Iterable[Row]) -> dict[str, Counter[str]]:
    """Rows of COUNTS in; return kind -> value -> rows."""
    totals: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in counts:
        totals[row["kind"]][row["value"]] += row["rows"]
    return totals


def write(resolution: Resolution, folder: Folder, table: str, pool: Pool, *, shards: int) -> stream.Written:
    """Write one of tables.TABLES in `shards` shards.

    Rows are sorted by task unit and scenario: prompts of a batch then share worked examples in the engine's prefix cache.
    """
    refs = _labelled(resolution, partial(tables.select_table, table=table), executor(pool))
    rows = stream.of_refs(refs).repartition(min(shards, 200), keys=["shard"])
    # Source and line order the rows that have no prompt_id of their own, so that the same rows are the same file.
    order = ("task_unit", "scenario", "prompt_id", "source", "line")
    sort_by = [name for name in order if name in tables.TABLES[table].names]
    return stream.write(rows, stream.Target(folder / table, tables.TABLES[table], shard=["shard", *sort_by]), pool)


def _indices(files: Sequence[SourceFile]) -> Rows:
    blocks = max(1, min(len(files), sum(file.bytes for file in files) // BYTES_PER_TASK))
    return stream.from_items([{"file": index} for index in range(len(files))], blocks)


def _count_rows(indices: pa.Table, files: list[SourceFile]) -> pa.Table:
    numbers = indices["file"].to_pylist()
    return pa.table({"file": numbers, "rows": [files[number].count() if files[number].take else 0 for number in numbers]})


def _ingest(indices: pa.Table, files: list[SourceFile], section: Prompts) -> Iterator[pa.Table]:
    yield INGESTED.empty_table()
    for index in indices["file"].to_pylist():
        for rows in prompts(files[index], max_chars=section.max_chars):
            rows = withdraw(identify(redact(rows, section.redact)), section.withdrawn)
            yield with_holdout_first(rows) if section.earlier else rows


def _known(numbers: pa.Table, earlier: list[Earlier], section: Prompts) -> Iterator[pa.Table]:
    yield INGESTED.empty_table()
    for number in numbers["run"].to_pylist():
        for rows in known(earlier[number]):
            yield withdraw(rows, section.withdrawn)


def _labelled(
    resolution: Resolution, function: Callable[..., pa.Table], tasks: Executor, of_blocks: Mapping[int, Any] | None = None
) -> list[Ref]:
    """Return references to what `function` makes of each block as LABELLED; of those in `of_blocks` only, and of their items there.

    A task reads one block, its dispositions, and the bounds of shards. Rows are labelled anew each time, so that none is held as
    LABELLED. What `function` returned is: the rows of a table are held a second time until they are written (`stream.of_refs`).
    """
    blocks, dispositions, bounds = resolution.blocks, resolution.dispositions, resolution.shard_bounds
    more = {number: [] for number in range(len(blocks))} if of_blocks is None else {key: [item] for key, item in of_blocks.items()}
    return [
        tasks.start(resolve_flow.labelled, function, blocks[number], dispositions[number], bounds, *mine)[0]
        for number, mine in more.items()
    ]


def _parents(labelled: pa.Table, block: int) -> pa.Table:
    seeds = labelled.filter(pc.and_(pc.equal(labelled["disposition"], "prompts"), is_seed(labelled))).select(PARENT.names)
    return seeds.append_column("block", pa.repeat(block, len(seeds)))


def _assign(
    requests: list[QuotaRequest], done: dict[str, int], *parents: pa.Table
) -> tuple[pa.Table, dict[QuotaKey, int], list[int]]:
    """Return ASK with the number of the `block` that has the seed, how many prompts are asked for, and the blocks."""
    seeds = pa.concat_tables(parents)
    asks = quota.assign(seeds, requests, done=done)
    firsts = asks.filter(pc.equal(asks["slot"], 0))
    block = seeds["block"].take(pc.index_in(asks["shown"], seeds["prompt_id"].combine_chunks()))
    counts = dict(Counter(zip(firsts["title"].to_pylist(), firsts["wanted"].to_pylist(), strict=True)))
    return asks.append_column("block", block), counts, sorted(pc.unique(block).to_pylist())


def _shown(labelled: pa.Table, asks: pa.Table) -> pa.Table:
    return quota.with_seeds(labelled.filter(pc.equal(labelled["disposition"], "prompts")), asks)


def _asks_by_block(blocks: Sequence[int], titles: list[str], size: int, asks: pa.Table) -> Any:
    """Return the asks of `titles` whose seeds are in each of the ascending `blocks`, with the number of their `batch`."""
    batched = quota.batched(asks, titles, size=size)
    block = batched["block"].to_numpy()
    order = np.argsort(block, kind="stable")
    cuts = [*np.searchsorted(block[order], blocks).tolist(), len(order)]
    batched = batched.drop_columns(["block"])
    return returned([batched.take(pa.array(order[start:stop])) for start, stop in pairwise(cuts)])


def _tokens(written: pa.Table) -> pa.Table:
    return pa.table({name: [pc.sum(written[name]).as_py() or 0] for name in ("tokens_in", "tokens_out")})


def _admit(written: pa.Table, section: Prompts) -> pa.Table:
    return identify(redact(written.select(INGESTED.names), section.redact))
