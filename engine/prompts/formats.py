"""Readers of JSONL, CSV and Parquet, row by row in bounded memory. An unreadable row is returned with its reason, not raised."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from engine.rows import Row
from engine.storage.identity import format_of

LINE_LIMIT = 16 << 20  # bytes of one line or cell; the rest of a longer one is skipped
BATCH = 1_000  # rows of a Parquet file in memory at once
RAW_CHARS = 800  # of a row that are kept as `text`


class RawRow(NamedTuple):
    """One row as read."""

    line: int  # of the file, from 1; the row number for Parquet
    fields: Row
    text: str  # the row as it is in the file, at most RAW_CHARS characters
    reason: str = ""  # one of rows.REJECTED if it could not be read
    detail: str = ""


def read(url: str) -> Iterator[RawRow]:
    """Yield the rows of the file at `url`.

    Raises:
        OSError: it cannot be opened or read further.
        ValueError: the whole file is not of the format that its ending says.
    """
    name = format_of(url)
    with _open(url) as file:
        yield from READERS[name or "jsonl"](file)


def read_jsonl(file: BinaryIO) -> Iterator[RawRow]:
    """Yield one row for each line. Lines are decoded one by one, so that an invalid byte costs one row. Blank lines are skipped."""
    for number, (line, is_whole) in enumerate(_lines(file), 1):
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not line.strip():
            continue
        text = line[:RAW_CHARS].decode("utf-8", "replace").rstrip("\r\n")
        if not is_whole:
            yield RawRow(number, {}, text, "too_long", f"the line has more than {LINE_LIMIT} bytes")
            continue
        try:
            value = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield RawRow(number, {}, text, "encoding", f"not UTF-8: byte {line[error.start]:#04x} at position {error.start}")
        except (ValueError, RecursionError) as error:
            yield RawRow(number, {}, text, "unreadable", f"not JSON: {error}")
        else:
            if isinstance(value, dict):
                yield RawRow(number, value, text)
            else:
                yield RawRow(number, {}, text, "unreadable", f"found {type(value).__name__}, expected a JSON object")


def read_csv(file: BinaryIO) -> Iterator[RawRow]:
    """Yield one row for each record after the header. Invalid UTF-8 is decoded to surrogates, so that it costs one row."""
    csv.field_size_limit(LINE_LIMIT)
    records = _csv_records(file)
    header = next(records, [])
    while True:
        start = records.line_num + 1
        try:
            values = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            yield RawRow(start, {}, "", "unreadable", f"not CSV: {error}")
            continue
        text = ",".join(values)[:RAW_CHARS].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if not any(values):
            continue
        if any(_has_surrogates(value) for value in values):
            yield RawRow(start, {}, text, "encoding", "not UTF-8")
        elif len(values) > len(header):
            yield RawRow(start, {}, text, "unreadable", f"found {len(values)} fields, expected {len(header)}")
        else:
            yield RawRow(start, dict(zip(header, values, strict=False)), text)


def read_parquet(file: BinaryIO) -> Iterator[RawRow]:
    """Yield one row for each record, read in batches."""
    try:
        number = 0
        for batch in pq.ParquetFile(file).iter_batches(batch_size=BATCH):
            for fields in batch.to_pylist():
                number += 1
                yield RawRow(number, fields, json.dumps(fields, default=str, ensure_ascii=False)[:RAW_CHARS])
    except pa.ArrowException as error:
        raise ValueError(f"not Parquet: {error}") from None


def columns(url: str) -> list[str] | None:
    """Return the columns that every row of the file has; None for JSONL, where each row has its own.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not of the format that its ending says.
    """
    name = format_of(url)
    if name == "jsonl":
        return None
    with _open(url) as file:
        if name == "csv":
            return next(_csv_records(file), [])
        try:
            return pq.read_schema(file).names
        except pa.ArrowException as error:
            raise ValueError(f"not Parquet: {error}") from None


def _open(url: str) -> Any:
    return fsspec.open(url, "rb", compression=None if format_of(url) == "parquet" else "infer")


def _csv_records(file: BinaryIO) -> Any:
    return csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline=""))


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Yield (line, is whole); of a line over LINE_LIMIT only the beginning."""
    while line := file.readline(LINE_LIMIT):
        is_whole = at_end = len(line) < LINE_LIMIT or line.endswith(b"\n")
        while not at_end:
            more = file.readline(LINE_LIMIT)
            at_end = not more or more.endswith(b"\n")
        yield line, is_whole


def _has_surrogates(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text)


READERS: dict[str, Callable[[BinaryIO], Iterator[RawRow]]] = {"jsonl": read_jsonl, "csv": read_csv, "parquet": read_parquet}
