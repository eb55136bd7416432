"""Which prompts say the same: copies within train, copies within the holdout, and train prompts that the holdout asks too.

A group of copies has one keeper: a holdout row if it has any, else the smallest prompt_id, of equal ones the earliest. So nothing
that is a copy of the holdout, or is joined to it by a chain of near copies, is ever shown to a teacher.

What is synthesized loses to everything that was there before it, and changes nothing for it: two seeds that are both like a
synthetic prompt are not made copies by that.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.prompts import Copies
from engine.prompts.sources import LINE_BITS
from engine.similarity.buckets import keyed, text_key
from engine.similarity.components import group, keepers, numbered
from engine.similarity.minhash import band_keys, bands, exact_keys, signatures

SIGNED = pa.schema(  # about 620 bytes a row with 128 permutations
    [
        ("place", pa.int64()),
        ("prompt_id", pa.string()),
        ("side", pa.string()),
        ("round", pa.int32()),
        ("id_key", pa.uint64()),  # of source and given id; null if no id is given
        ("text_key", pa.uint64()),
        ("minima", pa.list_(pa.uint32())),
    ]
)
FATES = pa.schema(  # of the rows that do not stay, about 60 bytes each; a row that is not here is kept
    [
        ("place", pa.int64()),
        ("fate", pa.string()),  # one of rows.PROMPT_DROPS, or duplicate_id
        ("rep_id", pa.string()),
        ("similarity", pa.float32()),
        ("detail", pa.string()),
    ]
)


def sign(rows: pa.Table, copies: Copies) -> pa.Table:
    """WORK in, SIGNED out: one row for each sound prompt."""
    rows = rows.filter(pc.equal(rows["reason"], ""))
    given = zip(rows["path"].to_pylist(), rows["given_id"].to_pylist(), strict=True)
    minima = signatures(rows["text"], copies)
    return pa.table(
        {
            "place": rows["place"],
            "prompt_id": rows["prompt_id"],
            "side": rows["side"],
            "round": rows["round"],
            "id_key": pa.array([None if one is None else text_key(path, one) for path, one in given], pa.uint64()),
            "text_key": pa.array(exact_keys(rows["text"])),
            "minima": pa.array(list(minima), pa.list_(pa.uint32())),
        },
        schema=SIGNED,
    )


def keys(signed: pa.Table, copies: Copies) -> pa.Table:
    """SIGNED in, (key, kind, id) out; kinds are `id`, `exact` and `near`."""
    return keyed(
        signed["place"].combine_chunks(),
        id=signed["id_key"].combine_chunks(),
        exact=signed["text_key"].combine_chunks(),
        near=band_keys(minima_of(signed), bands(copies)),
    )


def settle(signed: pa.Table, pairs: pa.Table, copies: Copies) -> pa.Table:
    """SIGNED, whole and in any order, and the (a, b, kind) of its places in; FATES out."""
    repeated = _repeated_ids(signed, pairs)
    rows = signed.filter(pc.invert(pc.is_in(signed["place"], repeated["place"])))
    rows = rows.sort_by([(name, "ascending") for name in ("side", "round", "prompt_id", "place")])  # holdout < train
    fates = [repeated]
    for last in pc.unique(rows["round"]).sort().to_pylist():
        found = _copied(rows.filter(pc.less_equal(rows["round"], last)), pairs, copies)
        places = rows.filter(pc.equal(rows["round"], last))["place"]
        fates.append(found.filter(pc.is_in(found["place"], places.combine_chunks())))
    return pa.concat_tables(fates).sort_by("place")


def minima_of(signed: pa.Table) -> np.ndarray:
    """Return the signatures, (rows, num_perm)."""
    if not signed.num_rows:
        return np.empty((0, 1), np.uint32)
    return np.stack([np.asarray(row) for chunk in signed["minima"].chunks for row in _rows(chunk)])


def _copied(rows: pa.Table, pairs: pa.Table, copies: Copies) -> pa.Table:
    """SIGNED in, best first; FATES of the copies out."""
    found = group(rows["place"], minima_of(rows), pairs, threshold=copies.threshold)
    lost = np.flatnonzero(found.keeper != np.arange(len(rows)))
    to = found.keeper[lost]
    side = np.array(rows["side"].to_pylist(), object)
    is_exact, is_leak = found.exact[lost] == found.exact[to], side[lost] != side[to]
    fate = np.where(is_leak, np.where(is_exact, "holdout_copy", "holdout_near"), np.where(is_exact, "exact_copy", "near_copy"))
    return pa.table(
        {
            "place": rows["place"].take(pa.array(lost)),
            "fate": pa.array(fate.tolist(), pa.string()),
            "rep_id": rows["prompt_id"].take(pa.array(to)),
            "similarity": pa.array(found.similarity[lost], pa.float32()),
            "detail": pa.array([""] * len(lost), pa.string()),
        },
        schema=FATES,
    )


def _rows(chunk: pa.ListArray) -> np.ndarray:
    return chunk.flatten().to_numpy().reshape(len(chunk), -1)


def _repeated_ids(signed: pa.Table, pairs: pa.Table) -> pa.Table:
    """Rows whose given id an earlier row of the same source has."""
    places = signed["place"].combine_chunks().sort()
    first = keepers(len(places), *numbered(places, pairs.filter(pc.equal(pairs["kind"], "id"))))
    later = np.flatnonzero(first != np.arange(len(places)))
    lines = places.to_numpy()[first[later]] & ((1 << LINE_BITS) - 1)
    return pa.table(
        {
            "place": places.take(pa.array(later)),
            "fate": pa.repeat("duplicate_id", len(later)),
            "rep_id": pa.repeat("", len(later)),
            "similarity": pa.nulls(len(later), pa.float32()),
            "detail": pa.array([f"line {line} has the same id" for line in lines], pa.string()),
        },
        schema=FATES,
    )
