"""The files of `rayleigh export`: one for each split, written row by row. Tables and arrays have files of their own."""

import csv
import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from engine.publish.forms import FORMS
from engine.publish.tables import SCHEMAS, annotated
from engine.rows import Row
from jobs.commands.sql import Views

BATCH = 5_000
"""Rows of a split that are held before they are written as one row group."""


class Target(NamedTuple):
    """Where the rows of a table go."""

    folder: Path
    """The export, while it is not whole."""
    final: Path
    """Where it will lie."""
    table: str
    name: str
    """Of the contract."""
    views: Views


class Sink:
    """The files of one table. `form` turns a row into what is written; None: the format cannot express it."""

    replaces = True
    """Whether personal data can be replaced in it; a row with some is left out else."""

    def __init__(self, target: Target) -> None:
        self.target, self.folder, self.table = target, target.folder, target.table
        self.schema = SCHEMAS[target.table]
        self.stack = ExitStack()
        self.open: dict[str, Any] = {}

    @property
    def splits(self) -> list[str]:
        """Splits that have rows, train first."""
        return sorted(self.open, key=lambda split: (split != "train", split))

    def source(self, query: str) -> str:
        """Return the query of the rows, from that of the table with what is known of the prompts."""
        return query

    def form(self, row: Row) -> Row | None:
        """Return what is written of a row."""
        return {name: row[name] for name in self.schema.names}

    def put(self, row: Row) -> None:
        """Write one row: `split`, and `row` as `form` returned it."""
        split = row["split"]
        if split not in self.open:
            self.open[split] = self._start(split)
        self._write(self.open[split], row["row"])

    def _start(self, split: str) -> Any:
        raise NotImplementedError

    def _write(self, file: Any, row: Row) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Write what waits until all rows are known; the files of the splits are closed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stack.close()
        if error is None:
            self.finish()


class Parquet(Sink):
    """`data/<table>/<split>.parquet`."""

    place = "data/{table}"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.schema = annotated(target.table, "description")

    def _start(self, split: str) -> "Batches":
        path = self.folder / self.place.format(table=self.table) / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        return self.stack.enter_context(Batches(path, self.schema))

    def _write(self, file: "Batches", row: Row) -> None:
        file.put(row)


class Flat(Parquet):
    """`data/<split>.parquet` with flat columns: turns are JSON, as a Croissant field holds one value."""

    place = "data"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.schema = pa.schema(field.with_type(pa.string()) if pa.types.is_nested(field.type) else field for field in self.schema)

    def form(self, row: Row) -> Row | None:
        return {name: _flat(row[name]) for name in self.schema.names}


class Csv(Sink):
    """`<split>.csv`: turns are JSON. Cells are as the texts are, so a program reads them back; a spreadsheet may take a text that
    begins with = for a formula."""

    def form(self, row: Row) -> Row | None:
        return {name: _flat(row[name]) for name in self.schema.names}

    def _start(self, split: str) -> Any:
        file = self.stack.enter_context((self.folder / f"{split}.csv").open("w", encoding="utf-8", newline=""))
        table = csv.DictWriter(file, self.schema.names)
        table.writeheader()
        return table

    def _write(self, file: Any, row: Row) -> None:
        file.writerow(row)


class Jsonl(Sink):
    """`<split>.jsonl` in one of `forms.FORMS`."""

    name = ""

    def form(self, row: Row) -> Row | None:
        return FORMS[self.name](row)

    def _start(self, split: str) -> Any:
        return self.stack.enter_context((self.folder / f"{split}.jsonl").open("w", encoding="utf-8"))

    def _write(self, file: Any, row: Row) -> None:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


class Messages(Jsonl):
    """TRL, axolotl."""

    name = "messages"


class Sharegpt(Jsonl):
    """LLaMA-Factory, axolotl."""

    name = "sharegpt"


class Alpaca(Jsonl):
    """LLaMA-Factory, axolotl."""

    name = "alpaca"


class Preferences(Jsonl):
    """TRL."""

    name = "preferences"


class Batches:
    """A Parquet file to which rows are added one by one."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.writer, self.schema, self.rows = pq.ParquetWriter(path, schema, compression="zstd"), schema, list[Row]()

    def put(self, row: Row) -> None:
        """Add a row."""
        self.rows.append(row)
        if len(self.rows) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        if self.rows:
            self.writer.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
        self.rows = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._flush()
        self.writer.close()


def _flat(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
