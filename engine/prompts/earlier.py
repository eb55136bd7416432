"""Prompts of earlier runs, taken over as they are: with the ids by which answers to them were paid.

They are a round before the sources' rows (`round` -1), so a new prompt loses to them and never changes which of them stay. The
holdout is in that round, too, for it comes before all.
"""

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from engine.prompts.sources import INGESTED, LINE_BITS
from engine.records.record import Table
from engine.rows import PROMPT, Row, content_id
from engine.storage.folder import Folder
from engine.storage.shards import iterate

EARLIER = -1
"""Their `round`."""


class Earlier(NamedTuple):
    """The prompts of one earlier run; plain picklable values."""

    folder: Folder
    """With the table's shards."""
    table: Table
    """Of PROMPT."""
    number: int
    """Of the file that they count as, unique among all files of the job."""
    paths: Sequence[str]
    """Of the sources that they may come from, as their contracts write them."""


def known(run: Earlier) -> Iterator[pa.Table]:
    """Yield the prompts of `run` as INGESTED."""
    place = 0
    for piece in iterate(run.folder, run.table, PROMPT.names):
        rows = [_ingested(row, run, place + index) for index, row in enumerate(piece.to_pylist())]
        place += len(rows)
        yield pa.Table.from_pylist(rows, schema=INGESTED)


def _ingested(row: Row, run: Earlier, place: int) -> Row:
    """Return a row of INGESTED; `place` is that of the prompt in its table."""
    return {
        **row,
        "path": _path(row, run.paths),
        "row_key": run.number << LINE_BITS | place,
        "split": "train",
        "round": EARLIER,
        "source_id": None,
        "reason": "",
        "detail": "",
        "raw": "",
        "is_cut": False,
        "missing": None,
    }


def _path(row: Row, paths: Sequence[str]) -> str:
    """Return the path that is part of the prompt's id; that of a written prompt is its source."""
    messages = json.dumps(row["messages"], sort_keys=True)
    return next((path for path in paths if content_id(path, messages) == row["prompt_id"]), row["source"])


def with_holdout_first(rows: pa.Table) -> pa.Table:
    """Return INGESTED with the holdout in the round of the earlier prompts."""
    rounds = pc.if_else(pc.equal(rows["split"], "holdout"), pa.scalar(EARLIER, pa.int32()), rows["round"])
    return rows.set_column(rows.schema.get_field_index("round"), INGESTED.field("round"), rounds)


def is_seed(rows: pa.Table) -> pa.ChunkedArray:
    """Return which rows of INGESTED were read from a source, now or in an earlier run."""
    return pc.and_(pc.less_equal(rows["round"], 0), pc.is_null(rows["parent_id"]))
