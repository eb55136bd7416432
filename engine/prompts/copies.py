"""Which prompts say the same: copies within train, copies within the holdout, and train prompts that the holdout asks too.

A group of copies has one keeper: a holdout row if it has any, else the smallest prompt_id, of equal ones the earliest. So nothing
that is a copy of the holdout, or is joined to it by a chain of near copies, is ever shown to a teacher.

What is synthesized loses to everything that was there before it, and changes nothing for it: two seeds that are both like a
synthetic prompt are not made copies by that.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from engine.contract.prompts import Copies
from engine.dedup.minhash import minhash, text_keys
from engine.dedup.representatives import Order
from engine.dedup.signature import SignedBlock, batch_columns
from engine.prompts.sources import LINE_BITS

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
        ("duplicate_of", pa.string()),
        ("similarity", pa.float32()),
        ("detail", pa.string()),
    ]
)


BEST_FIRST: Order = [(name, "ascending") for name in ("side", "round", "prompt_id", "place")]  # holdout < train
_WHO = ("place", "prompt_id", "side", "round")
_NO_MINIMA = np.empty((0, 1), np.uint32)


def sign(rows: pa.Table, copies: Copies) -> pa.Table:
    """WORK in, SIGNED out: one row for each sound prompt."""
    rows = rows.filter(pc.equal(rows["reason"], ""))
    given = zip(rows["path"].to_pylist(), rows["given_id"].to_pylist(), strict=True)
    minima = minhash(rows["text"], copies)
    return pa.table(
        {
            "place": rows["place"],
            "prompt_id": rows["prompt_id"],
            "side": rows["side"],
            "round": rows["round"],
            "id_key": pa.array([None if one is None else _id_key(path, one) for path, one in given], pa.uint64()),
            "text_key": pa.array(text_keys(rows["text"])),
            "minima": pa.array(list(minima), pa.list_(pa.uint32())),
        },
        schema=SIGNED,
    )


def named(signed: pa.Table) -> SignedBlock:
    """SIGNED in, the rows with a given id out, to be compared by it: of one source and id only the earliest stays."""
    rows = signed.filter(pc.is_valid(signed["id_key"]))
    table = pa.table({"id": rows["place"], **batch_columns(len(rows))})
    return SignedBlock(table, rows["id_key"].to_numpy(), np.empty((len(rows), 0), np.uint32))


def among(signed: pa.Table, repeated: Sequence[pa.Table], *, last: int) -> SignedBlock:
    """SIGNED in, its rows up to round `last` out, to be compared by what they say; those with a `repeated` id are left out."""
    out = pa.concat_tables(repeated)["id"].combine_chunks()
    rows = signed.filter(pc.and_(pc.invert(pc.is_in(signed["place"], out)), pc.less_equal(signed["round"], last)))
    who = [rows[name].combine_chunks() for name in _WHO]
    minima = np.array(rows["minima"].combine_chunks().flatten()).reshape(len(rows), -1) if len(rows) else _NO_MINIMA
    columns = {"id": pa.StructArray.from_arrays(who, list(_WHO)), **dict(zip(_WHO, who, strict=True))}
    table = pa.table(columns | batch_columns(len(rows)))
    return SignedBlock(table, rows["text_key"].to_numpy(), minima)


def settle(repeated: Sequence[pa.Table], rounds: Sequence[Sequence[pa.Table]]) -> pa.Table:
    """FATES of the rows with a `repeated` id, and of the copies that each round found among all rows up to it."""
    fates = [_repeated(pa.concat_tables(repeated))]
    for last, found in enumerate(rounds):
        table = pa.concat_tables(found)
        fates.append(_copied(table.filter(pc.equal(pc.struct_field(table["id"], "round"), last))))
    return pa.concat_tables(fates).sort_by("place")


def _id_key(path: str, given: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{path}\0{given}".encode("utf-8", "surrogatepass"))


def _copied(found: pa.Table) -> pa.Table:
    one, rep = ({name: pc.struct_field(found[end], name) for name in _WHO} for end in ("id", "duplicate_of"))
    is_leak, is_exact = pc.not_equal(one["side"], rep["side"]), pc.equal(found["method"], "exact")
    leak, copy = pc.if_else(is_exact, "holdout_copy", "holdout_near"), pc.if_else(is_exact, "exact_copy", "near_copy")
    return pa.table(
        {
            "place": one["place"],
            "fate": pc.if_else(is_leak, leak, copy),
            "duplicate_of": rep["prompt_id"],
            "similarity": found["similarity"],
            "detail": pa.repeat("", len(found)),
        },
        schema=FATES,
    )


def _repeated(found: pa.Table) -> pa.Table:
    lines = [place & ((1 << LINE_BITS) - 1) for place in found["duplicate_of"].to_pylist()]
    return pa.table(
        {
            "place": found["id"],
            "fate": pa.repeat("duplicate_id", len(found)),
            "duplicate_of": pa.repeat("", len(found)),
            "similarity": pa.nulls(len(found), pa.float32()),
            "detail": pa.array([f"line {line} has the same id" for line in lines], pa.string()),
        },
        schema=FATES,
    )
