"""The table and shard of each row: prompts, holdout, rejects or dropped copies."""

import bisect
from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import methodcaller

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.prompts.copies import DISPOSITIONS
from engine.prompts.sources import INGESTED, LINE_BITS
from engine.rows import DROPPED_PROMPT, HOLDOUT, PROMPT, PROMPT_DROPS, REJECT, REJECTED

LABELLED = pa.schema(
    [*INGESTED, *(DISPOSITIONS.field(name) for name in ("disposition", "duplicate_of", "similarity")), ("shard", pa.int64())]
)
TABLES = {"prompts": PROMPT, "holdout": HOLDOUT, "rejects": REJECT, "dropped": DROPPED_PROMPT}
DISPOSITIONS_OF = {"prompts": ("prompts",), "holdout": ("holdout",), "rejects": REJECTED, "dropped": PROMPT_DROPS}
REJECTS_SHOWN = 3  # of each block, in the error message if no row is left
SHARD_KEYS = pa.schema([("row_key", pa.int64()), ("prompt_id", pa.string()), ("split", pa.string())])
SPLITS = {"prompts": "train", "holdout": "holdout"}  # table -> split of its rows, of those tables that have several shards
COUNTS = pa.schema([("kind", pa.string()), ("value", pa.string()), ("rows", pa.int64())])


def label(rows: pa.Table, dispositions: pa.Table, shard_bounds: dict[str, list[str]]) -> pa.Table:
    """INGESTED in, LABELLED out: `disposition` is `prompts`, `holdout`, one of REJECTED or one of PROMPT_DROPS."""
    lost = dispositions.take(pc.index_in(rows["row_key"], dispositions["row_key"].combine_chunks()))
    is_valid = pc.equal(rows["reason"], "")
    kept = pc.if_else(pc.equal(rows["split"], "train"), "prompts", "holdout")
    disposition = pc.if_else(is_valid, pc.coalesce(lost["disposition"], kept), rows["reason"])
    rows = rows.set_column(INGESTED.get_field_index("detail"), "detail", pc.if_else(is_valid, lost["detail"], rows["detail"]))
    keys = zip(disposition.to_pylist(), rows["prompt_id"].to_pylist(), strict=True)
    columns = {
        "disposition": disposition,
        "duplicate_of": lost["duplicate_of"],
        "similarity": lost["similarity"],
        "shard": pa.array([bisect.bisect_right(shard_bounds.get(table, []), prompt_id) for table, prompt_id in keys]),
    }
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    return rows.cast(LABELLED)


def of_blocks(dispositions: pa.Table, blocks: Sequence[pa.Table]) -> list[pa.Table]:
    """Return the DISPOSITIONS of each of `blocks`, which are SHARD_KEYS; every row of `dispositions` is in one of them."""
    block = np.repeat(np.arange(len(blocks)), [len(keys) for keys in blocks])
    keys = pa.concat_tables(blocks)["row_key"].combine_chunks()
    of_row = block[pc.index_in(dispositions["row_key"], keys).to_numpy()]
    return [dispositions.filter(pa.array(of_row == number)) for number in range(len(blocks))]


def kept_by_range(keys: pa.Table, dispositions: pa.Table, parts: int) -> list[pa.Table]:
    """SHARD_KEYS in; return prompt_id and split of the rows that are kept, in `parts` ranges of prompt_id, a hash in hex."""
    is_dropped = pc.is_in(keys["row_key"], dispositions["row_key"].combine_chunks())
    kept = keys.select(["prompt_id", "split"]).filter(pc.invert(is_dropped)).sort_by("prompt_id")
    ids = kept["prompt_id"].combine_chunks()
    firsts = (f"{number * 16**8 // parts:08x}" for number in range(1, parts))
    cuts = [0, *(bisect.bisect_left(ids, first, key=methodcaller("as_py")) for first in firsts), len(ids)]
    return [kept.take(pa.array(np.arange(start, stop))) for start, stop in pairwise(cuts)]


def sorted_ids(*kept: pa.Table) -> tuple[dict[str, int], dict[str, pa.ChunkedArray]]:
    """`kept_by_range` of a range of prompt_id in; return how many rows each of SPLITS has there, and their sorted ids."""
    rows = pa.concat_tables(kept)
    ids = {table: rows.filter(pc.equal(rows["split"], split))["prompt_id"].sort() for table, split in SPLITS.items()}
    return {table: len(of_table) for table, of_table in ids.items()}, ids


def shard_bounds(ids: Mapping[str, pa.ChunkedArray], before: Mapping[str, int], *, shard_rows: int) -> dict[str, list[str]]:
    """Return for each of SPLITS the first prompt_id of each shard, but for the first shard, among the sorted `ids` of a range.

    `before` has the number of rows with smaller ids.
    """
    bounds = {}
    for table, of_table in ids.items():
        first = -before[table] % shard_rows if before[table] else shard_rows
        bounds[table] = of_table.take(pa.array(np.arange(first, len(of_table), shard_rows))).to_pylist()
    return bounds


def select_table(rows: pa.Table, table: str) -> pa.Table:
    """LABELLED in; return the rows of `table`, in its schema and with their `shard`."""
    rows = rows.filter(pc.is_in(rows["disposition"], pa.array(DISPOSITIONS_OF[table])))
    renamed = {"reason": "disposition"} if table == "rejects" else {"dropped_by": "disposition"}
    columns = {name: rows[renamed.get(name, name)] for name in TABLES[table].names}
    return pa.table({**columns, "shard": rows["shard"]})


def count(rows: pa.Table) -> pa.Table:
    """LABELLED in, COUNTS out: rows by disposition, source, layer and redacted kind, rows whose conversation was cut by source,
    those of `count_columns`, and the first rejects as messages.

    Synthesized rows are also counted by `source|layer|disposition`.
    """
    prompts = rows.filter(pc.equal(rows["disposition"], "prompts"))
    valid = rows.filter(pc.equal(rows["reason"], ""))
    written = rows.filter(pc.greater(rows["round"], 0))
    columns: dict[str, pa.ChunkedArray] = {
        "disposition": rows["disposition"],
        "source": rows["path"],
        "layer": prompts["layer"],
        "redacted": pc.list_flatten(valid["redacted"]),
        "cut": valid.filter(pc.fill_null(valid["is_cut"], False))["path"],
        "synthetic": pc.binary_join_element_wise(written["path"], written["layer"], written["disposition"], "|"),
    }
    counts = [
        {"kind": kind, "value": pair["values"], "rows": pair["counts"]}
        for kind, column in columns.items()
        for pair in pc.value_counts(column).to_pylist()
    ]
    counts += count_columns(rows).to_pylist()
    rejects = rows.filter(pc.is_in(rows["disposition"], pa.array(REJECTED))).slice(0, REJECTS_SHOWN)
    for row in rejects.select(["source", "line", "disposition", "detail"]).to_pylist():
        message = f"{row['source']} line {row['line']}: {row['disposition']}: {row['detail']}"
        counts.append({"kind": "reject", "value": message, "rows": 1})
    return pa.Table.from_pylist(counts, schema=COUNTS)


def count_rejects(rows: pa.Table) -> pa.Table:
    """INGESTED in, COUNTS out: `valid` rows by path of the source, and `rejected` ones by `file|reason`."""
    is_valid = pc.equal(rows["reason"], "")
    bad = rows.filter(pc.invert(is_valid))
    columns = {
        "valid": rows.filter(is_valid)["path"],
        "rejected": pc.binary_join_element_wise(bad["source"], bad["reason"], "|"),
    }
    counts = [
        {"kind": kind, "value": pair["values"], "rows": pair["counts"]}
        for kind, column in columns.items()
        for pair in pc.value_counts(column).to_pylist()
    ]
    return pa.Table.from_pylist(counts, schema=COUNTS)


def count_columns(rows: pa.Table) -> pa.Table:
    """INGESTED in, COUNTS out: `readable` rows by number of the file, and `missing` mapped columns by `number|column`."""
    read = rows.filter(pc.is_valid(rows["missing"]))
    numbers = pc.shift_right(read["row_key"], LINE_BITS).cast(pa.string())
    lists = read["missing"].combine_chunks()
    names = pc.binary_join_element_wise(numbers.combine_chunks().take(pc.list_parent_indices(lists)), pc.list_flatten(lists), "|")
    counts = [
        {"kind": kind, "value": pair["values"], "rows": pair["counts"]}
        for kind, column in (("readable", numbers), ("missing", names))
        for pair in pc.value_counts(column).to_pylist()
    ]
    return pa.Table.from_pylist(counts, schema=COUNTS)
