"""Prompts with equal text, and near-duplicates by MinHash, among the entries that are not dropped yet."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Curation
from engine.curation.dispositions import without_embedding
from engine.curation.samples import BEST_FIRST
from engine.dedup.signature import SignedBlock, batch_columns


def signed(entries: pa.Table, section: Curation) -> SignedBlock:
    """Return the signatures of the ENTRY rows that are not dropped, with the columns of BEST_FIRST."""
    is_enabled = section.exact or section.minhash is not None
    rows = entries.filter(pc.and_(pc.equal(entries["dropped_by"], ""), is_enabled))
    columns = {name: rows[name] for name, _ in BEST_FIRST} | {"id": rows["answer_id"]}
    width = section.minhash.num_perm if section.minhash else 0
    signatures = rows["minhash"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(rows), width)
    return SignedBlock(pa.table(columns | batch_columns(len(rows))), rows["text_key"].to_numpy(), signatures)


def resolve(entries: pa.Table, duplicates: Sequence[pa.Table], section: Curation) -> pa.Table:
    """Return DISPOSITION of those of the ENTRY rows that are dropped so far; `duplicates` has the pieces of their table."""
    copies = pa.concat_tables(duplicates)
    is_exact = pc.and_(pc.equal(copies["method"], "exact"), section.exact)
    columns = {"answer_id": copies["id"], "dropped_by": pc.if_else(is_exact, "exact", "minhash")}
    copies = pa.table(columns | {name: copies[name] for name in ("duplicate_of", "similarity")})
    earlier = entries.filter(pc.not_equal(entries["dropped_by"], "")).select(copies.column_names)
    return without_embedding(pa.concat_tables([earlier, copies]).sort_by("answer_id"))
