"""The table and shard of each row: prompts, holdout, rejects or dropped copies."""

import bisect

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


def shard_bounds(signed: pa.Table, dispositions: pa.Table, *, shard_rows: int) -> dict[str, list[str]]:
    """SHARD_KEYS in; return for the tables prompts and holdout the first prompt_id of each shard but the first."""
    kept = signed.filter(pc.invert(pc.is_in(signed["row_key"], dispositions["row_key"])))
    splits = {"prompts": "train", "holdout": "holdout"}
    ids = {table: kept.filter(pc.equal(kept["split"], split))["prompt_id"].sort().to_pylist() for table, split in splits.items()}
    return {table: sorted_ids[shard_rows::shard_rows] for table, sorted_ids in ids.items()}


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
