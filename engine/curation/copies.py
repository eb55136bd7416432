"""Prompts that say the same: exact copies and MinHash near copies among the answers that are still in."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Curation
from engine.curation.samples import BEST_FIRST
from engine.dedup.signature import Signed, came

DECISION = pa.schema(  # about 120 bytes a row
    [
        ("answer_id", pa.string()),
        ("dropped_by", pa.string()),  # one of rows.DROPPED_BY
        ("duplicate_of", pa.string()),
        ("similarity", pa.float32()),
        ("cluster", pa.int32()),
        ("x", pa.float32()),
        ("y", pa.float32()),
    ]
)


def sign(entries: pa.Table, section: Curation) -> Signed:
    """ENTRY in, what is compared of those that are still in out; the best comes first by BEST_FIRST."""
    is_asked = section.exact or section.minhash is not None
    rows = entries.filter(pc.and_(pc.equal(entries["dropped_by"], ""), is_asked))
    given = {name: rows[name] for name, _ in BEST_FIRST} | {"id": rows["answer_id"]}
    width = section.minhash.num_perm if section.minhash else 0
    minima = rows["minima"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(rows), width)
    return Signed(pa.table(given | came(len(rows))), rows["text_key"].to_numpy(), minima)


def settle(entries: pa.Table, duplicates: Sequence[pa.Table], section: Curation) -> pa.Table:
    """ENTRY, whole and in any order, and who is a copy of whom in; DECISION of those that are out by now out."""
    found = pa.concat_tables(duplicates)
    is_exact = pc.and_(pc.equal(found["method"], "exact"), section.exact)
    copied = pa.table(
        {
            "answer_id": found["id"],
            "dropped_by": pc.if_else(is_exact, "exact", "minhash"),
            "duplicate_of": found["rep"],
            "similarity": found["similarity"],
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
