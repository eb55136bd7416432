"""Copies among prompts: within train, within the holdout, and train prompts that are also in the holdout.

Of each group of copies one row is kept: a holdout row if there is one, else the row with the smallest prompt_id, and of equal ids
the earliest. So a prompt that is a copy of a holdout row, even through a chain of near copies, never reaches a teacher.

Synthesized rows lose to all rows of earlier rounds and do not affect them: two seeds that are both similar to a synthesized prompt
do not become copies of each other. The same holds for rows of sources and the prompts of earlier runs (`prompts.earlier`).
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from engine.contract.prompts import Copies
from engine.dedup.minhash import minhash, text_keys
from engine.dedup.representatives import Order
from engine.dedup.shared import SAMPLED, Shared, bottom, merge, shared
from engine.dedup.signature import SignedBlock, batch_columns
from engine.prompts.earlier import is_seed
from engine.prompts.sources import LINE_BITS

SIGNED = pa.schema(  # about 620 bytes a row with 128 permutations
    [
        ("row_key", pa.int64()),
        ("prompt_id", pa.string()),
        ("split", pa.string()),
        ("round", pa.int32()),
        ("id_key", pa.uint64()),  # hash of source and source_id; null without a source_id
        ("text_key", pa.uint64()),
        ("minima", pa.list_(pa.uint32())),
        ("path", pa.string()),  # of the source as the contract writes it
        ("task_unit", pa.string()),
        ("text", pa.string()),  # null but for the rows of the sample in which shared n-grams are counted
    ]
)
SAMPLE = pa.schema([SIGNED.field(name) for name in ("split", "path", "task_unit", "text_key", "text")])
DISPOSITIONS = pa.schema(  # of the rows that are not kept, about 60 bytes each
    [
        ("row_key", pa.int64()),
        ("disposition", pa.string()),  # one of rows.PROMPT_DROPS, or duplicate_id
        ("duplicate_of", pa.string()),
        ("similarity", pa.float32()),
        ("detail", pa.string()),
    ]
)

BEST_FIRST: Order = [(name, "ascending") for name in ("split", "round", "prompt_id", "row_key")]  # holdout < train
_KEYS = ("row_key", "prompt_id", "split", "round")


def sign(rows: pa.Table, copies: Copies, ignored: np.ndarray | None = None) -> pa.Table:
    """INGESTED in, SIGNED out: one row for each valid prompt. `ignored` are hashes of n-grams that do not count."""
    rows = rows.filter(pc.equal(rows["reason"], ""))
    keys = text_keys(rows["text"], copies.normalization)
    source_ids = zip(rows["path"].to_pylist(), rows["source_id"].to_pylist(), strict=True)
    minima = minhash(rows["text"], copies, ignored)
    columns = {
        **{name: rows[name] for name in _KEYS},
        "id_key": pa.array([None if name is None else _id_key(path, name) for path, name in source_ids], pa.uint64()),
        "text_key": pa.array(keys),
        "minima": pa.array(list(minima), pa.list_(pa.uint32())),
        **{name: rows[name] for name in ("path", "task_unit")},
        "text": pc.if_else(_sampled(rows, keys), rows["text"], None),
    }
    return pa.table(columns, schema=SIGNED)


def shared_ngrams(signed: pa.Table, copies: Copies) -> Shared:
    """Return the n-grams that most prompts of a source or task unit share, from SAMPLE of all rows."""
    rows = signed.filter(pc.is_valid(signed["text"]))
    columns = {"key": rows["text_key"], "text": rows["text"]}
    samples = [pa.table({"group": group, **columns}).select(SAMPLED.names).cast(SAMPLED) for group in _groups(rows)]
    return shared(merge(samples), copies)


def sample(signed: pa.Table) -> pa.Table:
    """Return SAMPLE of the rows of SIGNED in which shared n-grams are counted."""
    return signed.filter(pc.is_valid(signed["text"])).select(SAMPLE.names)


def joint_sample(samples: Sequence[pa.Table]) -> pa.Table:
    """Return SAMPLE of the whole, from those of its parts."""
    rows = pa.concat_tables(samples)
    is_sampled, keys = np.zeros(len(rows), bool), rows["text_key"].to_numpy()
    for group in _groups(rows):
        is_sampled[bottom(group, keys)] = True
    return rows.filter(pa.array(is_sampled))


def _sampled(rows: pa.Table, keys: np.ndarray) -> pa.Array:
    """Return which rows of a block belong to the sample; synthesized rows do not, as they may not change what earlier rows lose."""
    is_sampled, read = np.zeros(len(rows), bool), np.flatnonzero(is_seed(rows).to_numpy())
    for group in _groups(rows):
        is_sampled[read[bottom(group.take(pa.array(read)), keys[read])]] = True
    return pa.array(is_sampled)


def _groups(rows: pa.Table) -> list[pa.ChunkedArray]:
    """Return the groups of each row in which n-grams are counted: its source, whatever its files, and its task unit, by split."""
    return [
        pc.binary_join_element_wise(rows["split"], name, pc.fill_null(rows[column], ""), " ")
        for column, name in (("path", "source"), ("task_unit", "task unit"))
    ]


def by_source_id(signed: pa.Table) -> SignedBlock:
    """Return the SIGNED rows with a source_id, keyed by it: of equal ids of a source only the earliest row is kept."""
    rows = signed.filter(pc.is_valid(signed["id_key"]))
    table = pa.table({"id": rows["row_key"], **batch_columns(len(rows))})
    return SignedBlock(table, rows["id_key"].to_numpy(), np.empty((len(rows), 0), np.uint32))


def by_text(signed: pa.Table, *repeated: pa.Table, last: int, num_perm: int) -> SignedBlock:
    """Return the SIGNED rows up to round `last`, keyed by their text, without those that have a `repeated` id.

    Signatures are (rows, num_perm) for a block without rows too: signatures of all blocks are concatenated.
    """
    out = pa.concat_tables(repeated)["id"].combine_chunks()
    rows = signed.filter(pc.and_(pc.invert(pc.is_in(signed["row_key"], out)), pc.less_equal(signed["round"], last)))
    keys = [rows[name].combine_chunks() for name in _KEYS]
    minima = np.array(rows["minima"].combine_chunks().flatten(), np.uint32).reshape(len(rows), num_perm)
    columns = {"id": pa.StructArray.from_arrays(keys, list(_KEYS)), **dict(zip(_KEYS, keys, strict=True))}
    return SignedBlock(pa.table(columns | batch_columns(len(rows))), rows["text_key"].to_numpy(), minima)


def without_text(signed: pa.Table) -> pa.Table:
    """Return what the searches for copies read of SIGNED."""
    return signed.drop_columns([name for name in SAMPLE.names if name not in (*_KEYS, "text_key")])


def resolve(repeated: Sequence[pa.Table], rounds: Sequence[Sequence[pa.Table]], *, first: int = 0) -> pa.Table:
    """Return DISPOSITIONS of the rows with a `repeated` id, and of the copies that each round found among all rows up to it.

    `first` is the number of the first of `rounds`.
    """
    dispositions = [_repeated_ids(pa.concat_tables(repeated))]
    for last, parts in enumerate(rounds, start=first):
        copies = pa.concat_tables(parts)
        dispositions.append(_copies(copies.filter(pc.equal(pc.struct_field(copies["id"], "round"), last))))
    return pa.concat_tables(dispositions).sort_by("row_key")


def _id_key(path: str, source_id: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{path}\0{source_id}".encode("utf-8", "surrogatepass"))


def _copies(copies: pa.Table) -> pa.Table:
    row, kept = ({name: pc.struct_field(copies[end], name) for name in _KEYS} for end in ("id", "duplicate_of"))
    is_leak, is_exact = pc.not_equal(row["split"], kept["split"]), pc.equal(copies["method"], "exact")
    leak, copy = pc.if_else(is_exact, "holdout_copy", "holdout_near"), pc.if_else(is_exact, "exact_copy", "near_copy")
    columns = {"row_key": row["row_key"], "disposition": pc.if_else(is_leak, leak, copy), "duplicate_of": kept["prompt_id"]}
    columns |= {"similarity": copies["similarity"], "detail": pa.repeat("", len(copies))}
    return pa.table(columns, schema=DISPOSITIONS)


def _repeated_ids(copies: pa.Table) -> pa.Table:
    rows = [
        {"row_key": row_key, "disposition": "duplicate_id", "duplicate_of": "", "detail": _same_id(row_key, first)}
        for row_key, first in zip(copies["id"].to_pylist(), copies["duplicate_of"].to_pylist(), strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=DISPOSITIONS)


def _same_id(row_key: int, first: int) -> str:
    where = "" if row_key >> LINE_BITS == first >> LINE_BITS else " of another file of the source"
    return f"line {first & ((1 << LINE_BITS) - 1)}{where} has the same id"
