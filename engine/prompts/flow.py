"""Ray tasks of this room: files are read in parallel, copies are found by one shuffle of keys, and the driver gets counts only."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.profile import Pool
from engine.contract.prompts import Prompts
from engine.dedup import flow as similarity
from engine.dedup.flow import Plan
from engine.dedup.minhash import gram_hashes
from engine.dedup.signature import SignedBlock
from engine.distributed import gather, stream
from engine.distributed.executor import Executor
from engine.distributed.in_process import executor, get
from engine.distributed.rows import Ref, Rows
from engine.prompts import copies, quota, tables
from engine.prompts import files as files_of
from engine.prompts.earlier import EARLIER, Earlier, is_seed, known, with_holdout_first
from engine.prompts.files import SourceFile, with_counts
from engine.prompts.quota import PARENT, QuotaKey, QuotaRequest
from engine.prompts.redact import redact
from engine.prompts.sources import INGESTED, identify, prompts
from engine.prompts.synthesizer import Synthesizer, SynthesizerSpec
from engine.prompts.withdrawn import withdraw
from engine.storage.folder import Folder

BYTES_PER_TASK = 8 << 20  # each task costs a worker process and the import of the recognizers, about 5 s of a CPU


class Assigned(NamedTuple):
    """Seeds of the prompts that will be written."""

    asks: Ref  # quota.ASK
    counts: dict[QuotaKey, int]  # asks


class Resolution(NamedTuple):
    """Table and shard of every row, in the object store."""

    dispositions: Ref  # copies.DISPOSITIONS
    shard_bounds: Ref  # of tables.shard_bounds
    shared: Ref  # shared.Shared: n-grams that most prompts share, which do not count


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
    check_columns(count_of(stream.apply(rows, tables.count_columns, pool)), files)


def check_columns(counts: Mapping[str, Mapping[str, int]], files: Sequence[SourceFile]) -> None:
    """Check the result of `count`. Raises InputError if no row of a source has a column that is mapped."""
    pairs = ((value.split("|", 1), rows) for value, rows in counts.get("missing", {}).items())
    missing = {(int(number), name): rows for (number, name), rows in pairs}
    files_of.require_columns(list(files), {int(number): rows for number, rows in counts.get("readable", {}).items()}, missing)


def resolve(rows: Rows, section: Prompts, pool: Pool, *, rounds: int = 0, partitions: int | None = None) -> Resolution:
    """Return the resolution of INGESTED with `rounds` of synthesis. One task holds about 100 bytes a prompt."""
    signed = stream.apply(rows, copies.sign, pool, copies=section.copies).materialize()
    shared = gather.run(copies.shared_ngrams, (signed, copies.SAMPLE), copies=section.copies)
    if ignored := get(shared).grams:
        signed = stream.apply(rows, copies.sign, pool, copies=section.copies, ignored=gram_hashes(ignored)).materialize()
    plan = similarity.plan(signed.count(), section.copies, copies.BEST_FIRST, parts=partitions)
    first = EARLIER if section.earlier else 0
    blocks, numbers = signed.to_arrow_refs(), range(first, rounds + 1)
    repeated, by_round = find_copies(blocks, plan, executor(pool), rounds=numbers, num_perm=section.copies.num_perm)
    options = {"repeated": repeated, "rounds": by_round, "first": first, "shard_rows": section.shard_rows}
    return Resolution(*gather.run(_resolve, (signed, tables.SHARD_KEYS), returns=2, **options), shared=shared)


def find_copies(
    blocks: Sequence[Any], plan: Plan, executor: Executor, *, rounds: Sequence[int], num_perm: int
) -> tuple[list[Any], list[list[Any]]]:
    """Return references to the SIGNED rows with a repeated id, and for each round to the copies among all rows up to it."""

    def search(compute: Callable[..., SignedBlock], plan: Plan, args: Sequence[Any] = ()) -> list[Any]:
        signatures = similarity.compute_signatures(blocks, plan, executor, compute=compute, args=args)
        return similarity.find_duplicates(signatures, plan, executor).duplicates

    by_id = plan._replace(matcher=None, order=[("id", "ascending")], key_parts=1)
    repeated = search(copies.by_source_id, by_id)
    return repeated, [search(partial(copies.by_text, last=last, num_perm=num_perm), plan, repeated) for last in rounds]


def label(rows: Rows, resolution: Resolution, pool: Pool) -> Rows:
    """INGESTED in, LABELLED out."""
    return stream.apply(rows, _label, pool, resolution=resolution)


def assign(labelled: Rows, requests: Sequence[QuotaRequest], done: Mapping[str, int], pool: Pool) -> Assigned:
    """Choose the seeds for each request. One task holds about 100 bytes a seed, and no text."""
    parents = stream.apply(labelled, _parents, pool)
    asks, counts = gather.run(_assign, (parents, PARENT), returns=2, requests=list(requests), done=dict(done))
    return Assigned(asks, get(counts))


def synthesize(labelled: Rows, assigned: Assigned, specs: Sequence[SynthesizerSpec], pool: Pool) -> Rows:
    """LABELLED in, WRITTEN out: every synthesizer writes what is asked of its syntheses."""
    written = []
    for spec in specs:
        num_asks = sum(count for (title, _), count in assigned.counts.items() if title in spec.numbers)
        blocks = min(200, math.ceil(num_asks / spec.pool.batch))
        if not blocks:
            continue
        shown = stream.apply(labelled, _shown, pool, assigned=assigned, spec=spec).repartition(blocks, keys=["batch"])
        writers = spec.pool.model_copy(update={"actors": min(spec.pool.actors, blocks)})
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


def count(labelled: Rows, pool: Pool) -> dict[str, Counter[str]]:
    """Return kind -> value -> rows, see `tables.count`."""
    return count_of(stream.apply(labelled, tables.count, pool))


def count_of(counts: Rows) -> dict[str, Counter[str]]:
    """COUNTS in; return kind -> value -> rows."""
    totals: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in counts.iter_rows():
        totals[row["kind"]][row["value"]] += row["rows"]
    return totals


def write(labelled: Rows, folder: Folder, table: str, pool: Pool, *, shards: int) -> stream.Written:
    """Write one of tables.TABLES in `shards` shards.

    Rows are sorted by task unit and scenario: prompts of a batch then share worked examples in the engine's prefix cache.
    """
    rows = stream.apply(labelled, tables.select_table, pool, table=table).repartition(min(shards, 200), keys=["shard"])
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


def _parents(labelled: pa.Table) -> pa.Table:
    seeds = labelled.filter(pc.and_(pc.equal(labelled["disposition"], "prompts"), is_seed(labelled)))
    return seeds.select(PARENT.names)


def _assign(parents: pa.Table, requests: list[QuotaRequest], done: dict[str, int]) -> tuple[pa.Table, dict[QuotaKey, int]]:
    asks = quota.assign(parents, requests, done=done)
    firsts = asks.filter(pc.equal(asks["slot"], 0))
    return asks, dict(Counter(zip(firsts["title"].to_pylist(), firsts["wanted"].to_pylist(), strict=True)))


def _shown(labelled: pa.Table, assigned: Assigned, spec: SynthesizerSpec) -> pa.Table:
    asks = quota.batched(get(assigned.asks), list(spec.numbers), size=spec.pool.batch)
    return quota.with_seeds(labelled.filter(pc.equal(labelled["disposition"], "prompts")), asks)


def _tokens(written: pa.Table) -> pa.Table:
    return pa.table({name: [pc.sum(written[name]).as_py() or 0] for name in ("tokens_in", "tokens_out")})


def _admit(written: pa.Table, section: Prompts) -> pa.Table:
    return identify(redact(written.select(INGESTED.names), section.redact))


def _resolve(
    signed: pa.Table, repeated: list[Ref], rounds: list[list[Ref]], first: int, shard_rows: int
) -> tuple[pa.Table, dict[str, list[str]]]:
    dispositions = copies.resolve(get(repeated), [get(parts) for parts in rounds], first=first)
    return dispositions, tables.shard_bounds(signed, dispositions, shard_rows=shard_rows)


def _label(rows: pa.Table, resolution: Resolution) -> pa.Table:
    dispositions, shard_bounds = get([resolution.dispositions, resolution.shard_bounds])
    return tables.label(rows, dispositions, shard_bounds)
