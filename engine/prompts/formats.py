"""Files of prompts, read row by row in bounded memory. A row that cannot be read is a value with its reason, never an exception."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

LINE_LIMIT = 16 << 20  # bytes of one line or cell; the rest of a longer one is skipped
BATCH = 1_000  # rows of a Parquet file held at once


class Raw(NamedTuple):
    """One row as read."""

    line: int  # of the file, from 1; of a Parquet file the row
    fields: dict[str, Any]
    text: str  # as it stands in the file
    reason: str = ""  # one of rows.REJECTED if it could not be read
    detail: str = ""


def format_of(path: str) -> str | None:
    """Return the name of the format by which `path` is read, None if its ending says nothing."""
    name = path.lower().removesuffix(".gz").removesuffix(".bz2").removesuffix(".xz").removesuffix(".zst")
    return ENDINGS.get(name.rpartition(".")[2])


def read(url: str) -> Iterator[Raw]:
    """Yield the rows of the file at `url`.

    Raises:
        OSError: it cannot be opened or read on.
        ValueError: it is not of the format that its ending says, as a whole.
    """
    name = format_of(url)
    with _opened(url) as file:
        yield from FORMATS[name or "jsonl"](file)


def read_jsonl(file: BinaryIO) -> Iterator[Raw]:
    """One JSON object a line; each line is decoded by itself, so that one bad byte costs one row. Blank lines are no rows."""
    for number, (line, is_whole) in enumerate(_lines(file), 1):
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not line.strip():
            continue
        shown = line[:800].decode("utf-8", "replace").rstrip("\r\n")
        if not is_whole:
            yield Raw(number, {}, shown, "too_long", f"the line has more than {LINE_LIMIT} bytes")
            continue
        try:
            found = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield Raw(number, {}, shown, "encoding", f"not UTF-8: byte {line[error.start]:#04x} at position {error.start}")
        except (ValueError, RecursionError) as error:
            yield Raw(number, {}, shown, "unreadable", f"not JSON: {error}")
        else:
            if isinstance(found, dict):
                yield Raw(number, found, shown)
            else:
                yield Raw(number, {}, shown, "unreadable", f"found {type(found).__name__}, expected a JSON object")


def read_csv(file: BinaryIO) -> Iterator[Raw]:
    """A header, then a row a record. Bytes that are not UTF-8 travel as surrogates, so that one of them costs one row."""
    csv.field_size_limit(LINE_LIMIT)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    rows = csv.reader(text)
    header = next(rows, [])
    while True:
        start = rows.line_num + 1
        try:
            values = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Raw(start, {}, "", "unreadable", f"not CSV: {error}")
            continue
        shown = ",".join(values)[:800].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if not any(values):
            continue
        if any(_is_broken(value) for value in values):
            yield Raw(start, {}, shown, "encoding", "not UTF-8")
        elif len(values) > len(header):
            yield Raw(start, {}, shown, "unreadable", f"found {len(values)} fields, expected {len(header)}")
        else:
            yield Raw(start, dict(zip(header, values, strict=False)), shown)


def read_parquet(file: BinaryIO) -> Iterator[Raw]:
    """A row a record, in batches."""
    try:
        number = 0
        for batch in pq.ParquetFile(file).iter_batches(batch_size=BATCH):
            for fields in batch.to_pylist():
                number += 1
                yield Raw(number, fields, json.dumps(fields, default=str, ensure_ascii=False)[:800])
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
    with _opened(url) as file:
        if name == "csv":
            return next(csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")), [])
        try:
            return pq.read_schema(file).names
        except pa.ArrowException as error:
            raise ValueError(f"not Parquet: {error}") from None


def _opened(url: str) -> Any:
    return fsspec.open(url, "rb", compression=None if format_of(url) == "parquet" else "infer")


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Yield each line and whether it is whole; of a line over the limit only its beginning is held."""
    while line := file.readline(LINE_LIMIT):
        is_whole = rest = len(line) < LINE_LIMIT or line.endswith(b"\n")
        while not rest:
            more = file.readline(LINE_LIMIT)
            rest = not more or more.endswith(b"\n")
        yield line, is_whole


def _is_broken(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text)


ENDINGS = {"jsonl": "jsonl", "ndjson": "jsonl", "csv": "csv", "parquet": "parquet"}
FORMATS: dict[str, Callable[[BinaryIO], Iterator[Raw]]] = {"jsonl": read_jsonl, "csv": read_csv, "parquet": read_parquet}
