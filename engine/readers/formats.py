"""Rows of a data file, one by one in bounded memory. A bad row is returned with its reason, a damaged file stops the reading."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import InputError
from engine.readers.json_rows import read_json
from engine.readers.parquet_values import rows_of
from engine.readers.paths import format_of
from engine.readers.quotes import Record, records
from engine.readers.raw import LINE_LIMIT, RAW_CHARS, RawRow, Wanted, every, has_surrogates, printable
from engine.readers.streams import READ_ERRORS, open_binary

BATCH = 1_000  # rows of a Parquet file in memory at once
DAMAGED = "damaged"  # reason of the row that stands for a part of the file that cannot be read; callers see `unreadable`

Damaged = Literal["refuse", "keep"]


def read(url: str, *, wanted: Wanted = every, damaged: Damaged = "refuse") -> Iterator[RawRow]:
    """Yield the wanted rows of the file at `url`. With `damaged="keep"` a damaged part is one row with the reason `unreadable`.

    Raises:
        InputError: the file cannot be opened, is not of the format that its ending says, or is damaged (`refuse`).
    """
    line, is_open = 0, False
    try:
        with open_binary(url) as file:
            is_open = True
            for row in READERS[format_of(url) or "jsonl"](file, wanted):
                if row.reason == DAMAGED:
                    if damaged == "refuse":
                        raise ValueError(row.detail)
                    row = row._replace(reason="unreadable", detail=f"the file is damaged here: {row.detail}")
                line = row.line
                yield row
    except READ_ERRORS as error:
        if damaged == "refuse" or not is_open:
            raise InputError(_unreadable(url, line, error)) from None
        yield RawRow(line + 1, {}, "", "unreadable", f"the file is damaged from here on: {error}")


def count(url: str, *, damaged: Damaged = "refuse") -> int:
    """Return the number of rows that `read` numbers; of Parquet from its footer.

    Raises:
        InputError: as `read`.
    """
    if format_of(url) == "parquet":
        try:
            with open_binary(url) as file:
                return pq.read_metadata(file).num_rows
        except READ_ERRORS as error:
            raise InputError(_unreadable(url, 0, error)) from None
    rows = 0

    def wanted(row: int) -> bool:
        nonlocal rows
        rows = row + 1
        return False

    for _ in read(url, wanted=wanted, damaged=damaged):
        pass
    return rows


def columns(url: str) -> list[str] | None:
    """Return the columns that every row of the file has; None for JSON, where each row has its own.

    Raises:
        InputError: it cannot be opened, or is not of the format that its ending says.
    """
    name = format_of(url)
    if name not in ("csv", "tsv", "parquet"):
        return None
    try:
        with open_binary(url) as file:
            if name == "parquet":
                return pq.read_schema(file).names
            return next((record.values for record in records(_text(file), DELIMITERS[name], LINE_LIMIT)), [])
    except READ_ERRORS as error:
        raise InputError(_unreadable(url, 0, error)) from None


def read_csv(file: BinaryIO, wanted: Wanted, *, delimiter: str = ",") -> Iterator[RawRow]:
    """Yield one row for each record after the header. Invalid UTF-8 is decoded to surrogates, so that it costs one row."""
    read = records(_text(file), delimiter, LINE_LIMIT)
    header: list[str] = next((record.values for record in read), [])
    row = -1
    for record in records_of(read, len(header)):
        row += 1
        if not wanted(row):
            continue
        text = delimiter.join(record.values)[:RAW_CHARS]
        if record.fault:
            yield RawRow(record.line, {}, printable(text), "unreadable", record.fault)
        elif not any(record.values):
            yield RawRow(record.line, {}, text, "empty", "it has no value")
        elif any(has_surrogates(value) for value in record.values):
            yield RawRow(record.line, {}, printable(text), "encoding", "not UTF-8")
        else:
            yield RawRow(record.line, dict(zip(header, record.values, strict=False)), text)


def records_of(read: Iterator[Record], fields: int) -> Iterator[Record]:
    """Yield the records that are no blank line; one with more than `fields` values has a fault."""
    for record in read:
        if record.fault or record.values:
            is_long = not record.fault and len(record.values) > fields
            yield record._replace(fault=f"found {len(record.values)} fields, expected {fields}") if is_long else record


def read_tsv(file: BinaryIO, wanted: Wanted) -> Iterator[RawRow]:
    """Yield one row for each record after the header, as `read_csv`; values are between tabs."""
    return read_csv(file, wanted, delimiter="\t")


def read_parquet(file: BinaryIO, wanted: Wanted) -> Iterator[RawRow]:
    """Yield one row for each record, read in batches. What of a row group cannot be read is one row with the reason DAMAGED."""
    opened = pq.ParquetFile(file, page_checksum_verification=True)
    end = 0
    for group in range(opened.num_row_groups):
        row, end = end, end + opened.metadata.row_group(group).num_rows
        try:
            for batch in opened.iter_batches(batch_size=BATCH, row_groups=[group], use_threads=False):
                every_row = range(batch.num_rows)
                taken = every_row if wanted is every else [number for number in every_row if wanted(row + number)]
                rows = batch.take(pa.array(taken, pa.int64())) if len(taken) < batch.num_rows else batch
                for number, fields in zip(taken, rows_of(rows), strict=True):
                    text = json.dumps(fields, default=str, ensure_ascii=False)[:RAW_CHARS]
                    yield RawRow(row + number + 1, fields, printable(text))
                row += batch.num_rows
        except READ_ERRORS as error:
            yield RawRow(row + 1, {}, "", DAMAGED, f"rows {row + 1} to {end}: {error}")


def _text(file: BinaryIO) -> Iterator[str]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from text
    finally:
        with suppress(ValueError):  # the file has been closed
            text.detach()  # who opened it closes it


def _unreadable(url: str, line: int, error: BaseException) -> str:
    after = f" after line {line}" if line else ""
    keep = "; `damaged: keep` (--damaged keep) takes the rows that can be read" if line else ", or its ending"
    return f"{url}: cannot be read{after}: {error or type(error).__name__}. Correct the file or fetch it again{keep}."


DELIMITERS = {"csv": ",", "tsv": "\t"}
READERS: dict[str, Callable[[BinaryIO, Wanted], Iterator[RawRow]]] = {
    "jsonl": read_json, "json": read_json, "csv": read_csv, "tsv": read_tsv, "parquet": read_parquet,
}  # fmt: skip
