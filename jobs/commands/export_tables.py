"""The forms `delta`, `iceberg` and `lance` of `rayleigh export`: one table for all splits, written in one commit."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from engine.publish import formats, tables
from engine.rows import Row
from jobs.commands.export_files import BATCH, Batches, Sink, Target


class Table(Sink):
    """Rows wait in one Parquet file until all are known: a batch is in memory at a time, and there is no table without rows."""

    format = ""

    def __init__(self, target: Target) -> None:
        formats.require(self.format)
        super().__init__(target)
        self.schema = tables.annotated(target.table, formats.FORMATS[self.format].key)
        self.staged = self.folder / f".{target.table}.parquet"
        self.file: Batches | None = None

    def _start(self, split: str) -> Batches:
        self.file = self.file or self.stack.enter_context(Batches(self.staged, self.schema))
        return self.file

    def _write(self, file: Batches, row: Row) -> None:
        file.put(row)

    def finish(self) -> None:
        """Write the table."""
        if self.file:
            place = formats.Place(self.folder, self.target.final, self.target.name, self.target.table)
            formats.write(self.format, place, pa.RecordBatchReader.from_batches(self.schema, self._batches()))
            self.staged.unlink()

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self.staged) as file:
            for batch in file.iter_batches(batch_size=BATCH, use_threads=False):
                yield from pa.Table.from_batches([batch]).cast(self.schema).to_batches()  # a file adds numbers of fields


class Delta(Table):
    """`<table>/` of Delta Lake."""

    format = "delta"


class Iceberg(Table):
    """`warehouse/`, and `catalog.db`, an SQL catalogue in SQLite."""

    format = "iceberg"


class Lance(Table):
    """`<table>.lance/`."""

    format = "lance"
