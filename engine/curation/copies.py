"""Prompts that say the same: exact copies and MinHash near copies among the answers that are still in."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Curation
from engine.curation.samples import BEST_FIRST
from engine.similarity.buckets import keyed
from engine.similarity.components import group
from engine.similarity.minhash import band_keys, bands

DECISION = pa.schema(  # about 120 bytes a row
    [
        ("answer_id", pa.string()),
        ("dropped_by", pa.string()),  # one of rows.DROPPED_BY
        ("rep_id", pa.string()),
        ("similarity", pa.float32()),
        ("cluster", pa.int32()),
        ("x", pa.float32()),
        ("y", pa.float32()),
    ]
)


def keys(entries: pa.Table, section: Curation) -> pa.Table:
    """ENTRY in, (key, kind, id) of those that are still in out; kinds are `exact` and `near`, the id is the answer_id."""
    rows = _still_in(entries)
    kinds: dict[str, pa.Array | np.ndarray] = {"exact": rows["text_key"].combine_chunks()} if section.exact else {}
    if section.minhash:
        kinds["near"] = band_keys(_minima(rows, section.minhash.num_perm), bands(section.minhash))
    if not kinds:
        return pa.table({"key": pa.array([], pa.uint64()), "kind": pa.array([], pa.string()), "id": pa.array([], pa.string())})
    return keyed(rows["answer_id"].combine_chunks(), **kinds)


def settle(entries: pa.Table, pairs: pa.Table, section: Curation) -> pa.Table:
    """ENTRY, whole and in any order, and the pairs of its answers in; DECISION of those that are out by now out."""
    rows = _still_in(entries).sort_by(BEST_FIRST)
    minima = _minima(rows, section.minhash.num_perm) if section.minhash else None
    found = group(rows["answer_id"], minima, pairs, threshold=section.minhash.threshold if section.minhash else 1.0)
    lost = np.flatnonzero(found.keeper != np.arange(len(rows)))
    to = found.keeper[lost]
    reasons = np.where(found.exact[lost] == found.exact[to], "exact", "minhash")
    copied = pa.table(
        {
            "answer_id": rows["answer_id"].take(pa.array(lost)),
            "dropped_by": pa.array(reasons.tolist(), pa.string()),
            "rep_id": rows["answer_id"].take(pa.array(to)),
            "similarity": pa.array(found.similarity[lost], pa.float32()),
        }
    )
    earlier = entries.filter(pc.not_equal(entries["dropped_by"], "")).select(copied.column_names)
    return unplaced(pa.concat_tables([earlier, copied]).sort_by("answer_id"))


def unplaced(rows: pa.Table) -> pa.Table:
    """Return DECISION from its first four columns, without a cluster or a place on the map."""
    rows = rows.append_column("cluster", pa.repeat(pa.scalar(-1, pa.int32()), len(rows)))
    for name in ("x", "y"):
        rows = rows.append_column(name, pa.nulls(len(rows), pa.float32()))
    return rows.cast(DECISION)


def _still_in(entries: pa.Table) -> pa.Table:
    return entries.filter(pc.equal(entries["dropped_by"], ""))


def _minima(rows: pa.Table, num_perm: int) -> np.ndarray:
    return rows["minima"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, num_perm)
