"""The candidates, read block by block together with what was decided on the rows of each block.

Ray Data hands one block to a task, and the rows of candidates are in storage. So the block that it hands over is one row: the
slices of shards that the task reads, and a table of the rows of these that the task needs. A task reads nothing of other blocks.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.profile import Pool
from engine.curation.labels import apply_labels
from engine.dedup.plan import MOST_GROUPS, groups, pieces
from engine.distributed import stream
from engine.distributed.executor import Executor, returned
from engine.distributed.in_process import get, put
from engine.distributed.rows import Ref, Rows
from engine.rows import Row
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder

SCAN_ROWS = 20_000  # rows of a block
PROMPTS_PER_PARTITION = 100_000
BLOCK = "block"  # column with the number of the block of candidates that has the row
SLICE = pa.struct([("shard", pa.string()), ("version", pa.int64()), ("start", pa.int64()), ("rows", pa.int64())])


class Reading(NamedTuple):
    """What is read of each block: a table's folder and columns, and the labels that are applied."""

    folder: Folder
    columns: list[str] | None
    labels: Ref | None


class LabelledCandidates(NamedTuple):
    """The table candidates, and the labels of persons."""

    candidates: Artifact
    labels: Ref | None = None  # labels.LABEL

    @property
    def partitions(self) -> int:
        """Number of partitions by prompt, for ops that need every prompt whole.

        They are the blocks of the search for copies: beyond MOST_GROUPS (51 million rows) they grow, some 750 bytes a row, and the
        task that signs one holds three times as much (`engine.dedup.plan.GROUP_BYTES`).
        """
        return max(1, min(MOST_GROUPS, self.candidates.table("candidates").rows // PROMPTS_PER_PARTITION))

    def scan(
        self, parts: Sequence[Ref], function: Callable[..., pa.Table], pool: Pool, columns: list[str] | None = None, **options: Any
    ) -> Rows:  # fmt: skip
        """Return what `function(rows, given, **options)` makes of the rows of each block with the labels applied.

        `parts` are those of `numbers` or of `by_block`, which have what is `given`.
        """
        reading = Reading(self.candidates.folder / "candidates", columns, self.labels)
        rows = stream.of_refs(parts, whole=True)
        return stream.apply(rows, _labelled, pool, reading=reading, function=function, options=options)

    def numbers(self) -> list[Ref]:
        """Return a part for each block, in which a table of one row gives the number of the block."""
        return [put(_part(slices, pa.table({BLOCK: [number]}))) for number, slices in enumerate(self._slices())]

    def by_block(
        self, tables: Sequence[Ref], total: int, executor: Executor, *, of: Callable[[Any], pa.Table] | None = None
    ) -> list[Ref]:
        """Return a part for each block, with the rows of all `tables` that are of it.

        The tables have BLOCK, and `total` bytes in all; `of` returns the table of what `tables` refer to. They meet by groups of
        blocks, so that what travels does not grow with the square of rows.
        """
        blocks = self._slices()
        members = groups(len(blocks), most=pieces(total, len(tables), most=MOST_GROUPS))
        firsts = [group.start for group in members]
        split = [executor.start(_by_group, firsts, of, table, returns=len(members)) for table in tables]
        parts: list[Ref] = []
        for number, group in enumerate(members):
            mine = [of_table[number] for of_table in split]
            parts += executor.start(_by_block, group.start, blocks[group], *mine, returns=group.stop - group.start)
        return parts

    def _slices(self) -> list[list[Row]]:
        return stream.slices(self.candidates, "candidates", rows=SCAN_ROWS)


def with_block(table: pa.Table, rows: pa.Table) -> pa.Table:
    """Return `table` with BLOCK, by the answer_id, from `rows`."""
    return table.append_column(BLOCK, rows[BLOCK].take(pc.index_in(table["answer_id"], rows["answer_id"].combine_chunks())))


def _part(slices: list[Row], given: pa.Table) -> pa.Table:
    """Return the row that a task gets: what it reads, and what it is given beside it."""
    given = given.combine_chunks()
    rows = pa.StructArray.from_arrays([column.combine_chunks() for column in given.columns], fields=list(given.schema))
    return pa.table(
        {
            "slices": pa.array([slices], pa.list_(SLICE)),
            "given": pa.ListArray.from_arrays(pa.array([0, len(given)], pa.int32()), rows),
        }
    )


def _labelled(part: pa.Table, reading: Reading, function: Callable[..., pa.Table], options: Mapping[str, Any]) -> pa.Table:
    rows = stream.load(part["slices"][0].as_py(), reading.folder, reading.columns)
    if reading.labels:
        rows = apply_labels(rows, get(reading.labels))
    given = pa.RecordBatch.from_struct_array(part["given"].combine_chunks().flatten())
    return function(rows, pa.Table.from_batches([given]), **options)


def _by_group(firsts: list[int], of: Callable[[Any], pa.Table] | None, table: Any) -> Any:
    """Return the rows of each group of blocks, which begin with the blocks `firsts`."""
    return returned(_cut(of(table) if of else table, firsts[1:]))


def _by_block(first: int, slices: list[list[Row]], *pieces: pa.Table) -> Any:
    """Return the part of each block from `first` on, with the rows of `pieces` that are of it."""
    found = _cut(pa.concat_tables(pieces), range(first + 1, first + len(slices)))
    return returned([_part(mine, rows.drop_columns([BLOCK])) for mine, rows in zip(slices, found, strict=True)])


def _cut(table: pa.Table, starts: Sequence[int]) -> list[pa.Table]:
    """Return the rows up to the first of the blocks `starts`, and those of each from there on."""
    block = table[BLOCK].to_numpy()
    order = np.argsort(block, kind="stable")
    cuts = [0, *np.searchsorted(block[order], starts).tolist(), len(order)]
    return [table.take(pa.array(order[start:stop])) for start, stop in pairwise(cuts)]
