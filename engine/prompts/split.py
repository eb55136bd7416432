"""Where each row goes: a prompt, the holdout, a reject or a dropped copy; and into which shard."""

import bisect
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.prompts.copies import FATES
from engine.prompts.sources import WORK
from engine.rows import DROPPED_PROMPT, HOLDOUT, PROMPT, PROMPT_DROPS, REJECT, REJECTED

LABELLED = pa.schema([*WORK, *(FATES.field(name) for name in ("fate", "duplicate_of", "similarity")), ("shard", pa.int64())])
TABLES = {"prompts": PROMPT, "holdout": HOLDOUT, "rejects": REJECT, "dropped": DROPPED_PROMPT}
FATES_OF = {"prompts": ("prompts",), "holdout": ("holdout",), "rejects": REJECTED, "dropped": PROMPT_DROPS}
FIRST_FAULTS = 3  # rejects that a block shows


def label(rows: pa.Table, fates: pa.Table, cuts: dict[str, list[str]]) -> pa.Table:
    """WORK in, LABELLED out: `fate` is `prompts`, `holdout`, one of REJECTED or one of PROMPT_DROPS."""
    found = pc.index_in(rows["place"], fates["place"].combine_chunks())
    lost = fates.take(found)
    is_sound = pc.equal(rows["reason"], "")
    kept = pc.if_else(pc.equal(rows["side"], "train"), "prompts", "holdout")
    fate = pc.if_else(is_sound, pc.coalesce(lost["fate"], kept), rows["reason"])
    rows = rows.set_column(WORK.get_field_index("detail"), "detail", pc.if_else(is_sound, lost["detail"], rows["detail"]))
    columns = {
        "fate": fate,
        "duplicate_of": lost["duplicate_of"],
        "similarity": lost["similarity"],
        "shard": pa.array([_shard(*pair, cuts) for pair in zip(fate.to_pylist(), rows["prompt_id"].to_pylist(), strict=True)]),
    }
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    return rows.cast(LABELLED)


CUT = pa.schema([("place", pa.int64()), ("prompt_id", pa.string()), ("side", pa.string())])


def cuts(signed: pa.Table, fates: pa.Table, *, shard_rows: int) -> dict[str, list[str]]:
    """CUT in; return for the tables prompts and holdout the prompt_id at which each shard but the first begins."""
    kept = signed.filter(pc.invert(pc.is_in(signed["place"], fates["place"])))
    sides = {"prompts": "train", "holdout": "holdout"}
    ids = {table: kept.filter(pc.equal(kept["side"], side))["prompt_id"].sort().to_pylist() for table, side in sides.items()}
    return {table: found[shard_rows::shard_rows] for table, found in ids.items()}


def pick(rows: pa.Table, table: str) -> pa.Table:
    """LABELLED in; out come the rows of `table`, in its schema and with their `shard`."""
    rows = rows.filter(pc.is_in(rows["fate"], pa.array(FATES_OF[table])))
    renamed = {"reason": "fate"} if table == "rejects" else {"dropped_by": "fate"}
    columns = {name: rows[renamed.get(name, name)] for name in TABLES[table].names}
    return pa.table({**columns, "shard": rows["shard"]})


COUNTS = pa.schema([("what", pa.string()), ("value", pa.string()), ("rows", pa.int64())])


def count(rows: pa.Table) -> pa.Table:
    """LABELLED in, COUNTS out: fates, sources, layers of the prompts, redacted kinds, and the first faults in words.

    A synthetic row also counts as `source|layer|fate`.
    """
    prompts = rows.filter(pc.equal(rows["fate"], "prompts"))
    sound = rows.filter(pc.equal(rows["reason"], ""))
    written = rows.filter(pc.greater(rows["round"], 0))
    columns: dict[str, Any] = {
        "fate": rows["fate"],
        "source": rows["path"],
        "layer": prompts["layer"],
        "redacted": pc.list_flatten(sound["redacted"]),
        "synthetic": pc.binary_join_element_wise(written["path"], written["layer"], written["fate"], "|"),
    }
    out = [
        {"what": what, "value": pair["values"], "rows": pair["counts"]}
        for what, column in columns.items()
        for pair in pc.value_counts(column).to_pylist()
    ]
    faults = rows.filter(pc.is_in(rows["fate"], pa.array(REJECTED))).slice(0, FIRST_FAULTS)
    for row in faults.select(["source", "line", "fate", "detail"]).to_pylist():
        out.append({"what": "fault", "value": f"{row['source']} line {row['line']}: {row['fate']}: {row['detail']}", "rows": 1})
    return pa.Table.from_pylist(out, schema=COUNTS)


def _shard(fate: str, prompt_id: str, cuts: dict[str, list[str]]) -> int:
    return bisect.bisect_right(cuts.get(fate, []), prompt_id)
