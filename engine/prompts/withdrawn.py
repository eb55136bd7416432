"""Rows that may not be used any more become rejects, without their texts."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.prompts import Withdrawn
from engine.prompts.sources import INGESTED
from engine.rows import WITHDRAWN

KEPT = ("source", "line", "licence", "path", "row_key", "split", "round", "missing")


def withdraw(rows: pa.Table, orders: Sequence[Withdrawn]) -> pa.Table:
    """Return INGESTED, identified, with the rows that `orders` name as rejects."""
    for order in orders:
        named = _named(rows, order)
        if not pc.any(named).as_py():
            continue
        detail = f"its {next(name for name, value in order if value is not None)} is withdrawn"
        given = {"reason": WITHDRAWN, "detail": detail, "raw": "", "redacted": []}
        columns = []
        for field in INGESTED:
            if field.name in KEPT:
                columns.append(rows[field.name])
                continue
            blank = pa.array([given.get(field.name)] * len(rows), field.type)
            columns.append(pc.if_else(named, blank, rows[field.name].combine_chunks()))
        rows = pa.table(columns, schema=INGESTED)
    return rows


def _named(rows: pa.Table, order: Withdrawn) -> pa.Array:
    """Return which rows `order` names; a row that was rejected before is one of its source all the same."""
    if order.source is not None:
        found = pc.or_(pc.equal(rows["source"], order.source), pc.equal(rows["path"], order.source))
    elif order.licence is not None:
        found = pc.equal(rows["licence"], order.licence)
    else:
        found = pc.equal(rows["prompt_id"], order.prompt)
    return pc.fill_null(found, False).combine_chunks()
