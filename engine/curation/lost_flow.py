"""Which rows of a shard lose to a near one, of the same shard where it is the only one, or of any."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Curation
from engine.curation import decide
from engine.curation.decide import Lost, Shard
from engine.curation.samples import BEST_FIRST
from engine.dedup import flow as dedup
from engine.dedup.leaders import semantic_leaders
from engine.dedup.plan import PARTS_AT_ONCE
from engine.dedup.representatives import id_hashes
from engine.dedup.signature import SemanticMatcher, batch_columns
from engine.distributed.executor import Executor
from engine.distributed.rows import Ref


def lost(
    shards: Sequence[Ref], vectors: Sequence[Ref], rows: Sequence[int], section: Curation, executor: Executor, *, at_once: int
) -> list[Ref]:  # fmt: skip
    """Return references to decide.Lost of each shard: `shards` without vectors, their `vectors` and numbers of `rows`. The executor
    runs so many tasks `at_once`."""
    assert section.semantic, "rows are embedded only then"
    threshold = section.semantic.threshold
    if len(rows) == 1:
        return executor.start(_lost_in_one, threshold, shards[0], vectors[0])
    signed = [executor.start(_signed, *both, returns=4) for both in zip(shards, vectors, strict=True)]
    documents, nodes, clean, lengths = (list(column) for column in zip(*signed, strict=True))
    of_shards = zip(vectors, clean, executor.fetch(lengths), rows, strict=True)
    signatures = [whole if length == count else some for whole, some, length, count in of_shards]
    plan = dedup.plan(sum(rows), SemanticMatcher(Path(), threshold), BEST_FIRST)  # no model: the vectors are there
    plan = plan._replace(parts_at_once=max(PARTS_AT_ONCE, 2 * at_once))
    found = dedup.find_duplicates(dedup.Signatures(documents, nodes, signatures, nodes=[], band_keys=[]), plan, executor)
    pieces = dedup.by_block(found, len(signed), executor)
    return [executor.start(_lost_of, shard, *mine)[0] for shard, mine in zip(shards, pieces, strict=True)]


def _lost_in_one(threshold: float, shard: Shard, vectors: np.ndarray) -> Lost:
    order = pc.sort_indices(shard.rows, sort_keys=BEST_FIRST).to_numpy()
    order = order[~shard.resemblance["is_contaminated"].to_numpy()[order]]
    return decide.lost_to_leaders(semantic_leaders(vectors, order, threshold=threshold), _ids(shard))


def _signed(shard: Shard, vectors: np.ndarray) -> tuple[pa.Table, np.ndarray, np.ndarray, int]:
    """Return the rows that are not contaminated as documents whose nodes are their answer_ids: no two rows are one text here. Their
    vectors are left out if they are all.
    """
    is_clean = ~shard.resemblance["is_contaminated"].to_numpy()
    rows = shard.rows.filter(pa.array(is_clean)).select([name for name, _ in BEST_FIRST])
    columns = {"id": rows["answer_id"], **{name: rows[name] for name in rows.column_names}, **batch_columns(len(rows))}
    rows = pa.table(columns)
    return rows, id_hashes(rows), vectors[:0] if is_clean.all() else vectors[is_clean], len(rows)


def _lost_of(shard: Shard, *duplicates: pa.Table) -> Lost:
    return decide.lost_to_duplicates(list(duplicates), _ids(shard))


def _ids(shard: Shard) -> pa.Array:
    return shard.rows["answer_id"].combine_chunks()
