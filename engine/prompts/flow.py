"""Room 1's door to Ray: files are read in tasks, copies are found by one shuffle of keys, and the driver sees counts only."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from ray import ObjectRef
from ray.data import Dataset

from engine.contract.profile import Pool
from engine.contract.prompts import Prompts
from engine.dedup import flow as similarity
from engine.dedup.flow import Plan
from engine.dedup.signature import Signed
from engine.distributed import gather, stream
from engine.distributed.task_pool import TaskPool
from engine.prompts import copies, quota, split
from engine.prompts.files import Slice
from engine.prompts.quota import PARENT, Cell, Order
from engine.prompts.redact import redact
from engine.prompts.sources import WORK, identify, prompts
from engine.prompts.synthesizer import Synthesizer, SynthesizerSpec
from engine.storage.shards import Folder

BYTES_PER_TASK = 8 << 20  # a task more costs a worker process and the import of the recognizers, some 5 s of a CPU


class Assigned(NamedTuple):
    """What is to be written from what."""

    asks: ObjectRef  # quota.ASK
    counts: dict[Cell, int]


class Verdicts(NamedTuple):
    """What became of the rows, where every task can read it."""

    fates: ObjectRef  # copies.FATES
    cuts: ObjectRef  # split.cuts


def read(slices: Sequence[Slice], section: Prompts, pool: Pool) -> Dataset:
    """Files in, WORK out, redacted and identified: one task a file, small files together.

    The rows stay in the object store, which spills to disk.
    """
    blocks = max(1, min(len(slices), sum(piece.bytes for piece in slices) // BYTES_PER_TASK))
    where = ray.data.from_items([{"slice": index} for index in range(len(slices))], override_num_blocks=blocks)
    return stream.apply(where, _ingest, pool, slices=list(slices), section=section).materialize()


def settle(rows: Dataset, section: Prompts, pool: Pool, *, rounds: int = 0, partitions: int | None = None) -> Verdicts:
    """WORK in, with what `rounds` of synthesis wrote; out comes where each row goes. One task holds about 100 bytes a prompt."""
    signed = stream.apply(rows, copies.sign, pool, copies=section.copies).materialize()
    blocks, count, crew = signed.to_arrow_refs(), signed.count(), TaskPool(pool)

    def search(how: Callable[[pa.Table], Signed], plan: Plan) -> list[ObjectRef]:
        return similarity.find(similarity.sign(blocks, plan, crew, how=how), plan, crew).duplicates

    repeated = search(copies.named, similarity.plan(count, None, [("id", "ascending")], parts=partitions))
    plan = similarity.plan(count, section.copies, copies.BEST_FIRST, parts=partitions)
    found = [search(partial(_among, repeated=repeated, last=last), plan) for last in range(rounds + 1)]
    given = {"repeated": repeated, "rounds": found, "shard_rows": section.shard_rows}
    return Verdicts(*gather.run(_settle, (signed, split.CUT), returns=2, **given))


def label(rows: Dataset, verdicts: Verdicts, pool: Pool) -> Dataset:
    """WORK in, LABELLED out."""
    return stream.apply(rows, _label, pool, verdicts=verdicts)


def assign(labelled: Dataset, asked: Sequence[Order], done: Mapping[str, int], pool: Pool) -> Assigned:
    """Return who is shown for what is asked. One task holds about 100 bytes a seed, and no text."""
    parents = stream.apply(labelled, _parents, pool)
    asks, counts = gather.run(_assign, (parents, PARENT), returns=2, asked=list(asked), done=dict(done))
    return Assigned(asks, ray.get(counts))


def synthesize(labelled: Dataset, assigned: Assigned, specs: Sequence[SynthesizerSpec], pool: Pool) -> Dataset:
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


def tokens(written: Dataset, pool: Pool) -> Counter[str]:
    """Return the tokens that models were asked and said."""
    totals: Counter[str] = Counter()
    for row in stream.apply(written, _tokens, pool).iter_rows():
        totals.update(row)
    return totals


def join(rows: Dataset, written: Dataset, section: Prompts, pool: Pool) -> Dataset:
    """Return WORK with WRITTEN added, redacted and identified as all rows are."""
    return rows.union(stream.apply(written, _admit, pool, section=section).materialize())


def count(labelled: Dataset, pool: Pool) -> dict[str, Counter[str]]:
    """Return how many rows there are by fate, source, layer and redaction, and of the synthetic ones by all of it."""
    totals: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in stream.apply(labelled, split.count, pool).iter_rows():
        totals[row["what"]][row["value"]] += row["rows"]
    return totals


def write(labelled: Dataset, folder: Folder, table: str, pool: Pool, *, shards: int) -> stream.Written:
    """Write one of split.TABLES in `shards` shards.

    Prompts of one kind stand together: they meet in one batch, where an engine computes what their worked examples share once.
    """
    rows = stream.apply(labelled, split.pick, pool, table=table).repartition(min(shards, 200), keys=["shard"])
    kinds = [name for name in ("task_unit", "scenario") if name in split.TABLES[table].names]
    return stream.write(rows, stream.Target(folder / table, split.TABLES[table], shard=["shard", *kinds]), pool)


def _ingest(where: pa.Table, slices: list[Slice], section: Prompts) -> Iterator[pa.Table]:
    yield WORK.empty_table()
    for index in where["slice"].to_pylist():
        for rows in prompts(slices[index], max_chars=section.max_chars):
            yield identify(redact(rows, section.redact))


def _parents(labelled: pa.Table) -> pa.Table:
    seeds = labelled.filter(pc.and_(pc.equal(labelled["fate"], "prompts"), pc.equal(labelled["round"], 0)))
    return seeds.select(PARENT.names)


def _assign(parents: pa.Table, asked: list[Order], done: dict[str, int]) -> tuple[pa.Table, dict[Cell, int]]:
    asks = quota.assign(parents, asked, done=done)
    firsts = asks.filter(pc.equal(asks["slot"], 0))
    return asks, dict(Counter(zip(firsts["title"].to_pylist(), firsts["wanted"].to_pylist(), strict=True)))


def _shown(labelled: pa.Table, assigned: Assigned, spec: SynthesizerSpec) -> pa.Table:
    asks = quota.batched(ray.get(assigned.asks), list(spec.numbers), size=spec.pool.batch)
    return quota.shown(labelled.filter(pc.equal(labelled["fate"], "prompts")), asks)


def _tokens(written: pa.Table) -> pa.Table:
    return pa.table({name: [pc.sum(written[name]).as_py() or 0] for name in ("tokens_in", "tokens_out")})


def _admit(written: pa.Table, section: Prompts) -> pa.Table:
    return identify(redact(written.select(WORK.names), section.redact))


def _among(signed: pa.Table, repeated: list[ObjectRef], last: int) -> Signed:
    return copies.among(signed, ray.get(repeated), last=last)


def _settle(
    signed: pa.Table, repeated: list[ObjectRef], rounds: list[list[ObjectRef]], shard_rows: int
) -> tuple[pa.Table, dict[str, list[str]]]:
    fates = copies.settle(ray.get(repeated), [ray.get(one) for one in rounds])
    return fates, split.cuts(signed, fates, shard_rows=shard_rows)


def _label(rows: pa.Table, verdicts: Verdicts) -> pa.Table:
    fates, cuts = ray.get(list(verdicts))
    return split.label(rows, fates, cuts)
