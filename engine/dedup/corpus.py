"""A corpus of data files, cut into blocks that tasks read themselves; the driver reads names, sizes, schemas and first lines."""

import io
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.dedup import lines
from engine.dedup.lines import SchemaDrift
from engine.errors import InputError
from engine.readers import formats
from engine.readers.columns import did_you_mean
from engine.readers.formats import Damaged
from engine.readers.json_rows import read_json
from engine.readers.paths import ACCEPTED, DataFile, compression_of, data_files, format_of, partitions
from engine.readers.raw import RawRow, every
from engine.readers.schemas import conform, join
from engine.readers.streams import READ_ERRORS, open_binary, size_of

BLOCK_ROWS = 65_536  # most rows of a block of Parquet, in whole row groups
BLOCK_BYTES = 64 << 20  # most bytes of a block, unless a single row group, a compressed file, a CSV or a JSON array has more
SAMPLE = 1 << 20  # bytes of JSONL from which the columns are inferred
NEWLINE = b"\n"
REJECTS = pa.schema(
    [("source", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("detail", pa.string()), ("raw", pa.string())]
)


class Piece(NamedTuple):
    """A part of one file: row groups of Parquet, the bytes of whole lines of JSONL, or a whole file."""

    url: str
    name: str  # of the file, in ids of rows without an id column
    form: Literal["parquet", "lines", "rows"]
    first: int  # first row, from 0
    rows: int
    bytes: int  # in memory
    groups: tuple[int, ...] = ()  # of Parquet
    start: int = 0
    stop: int | None = None  # None: to the end of the decompressed file
    folders: tuple[tuple[str, str | None], ...] = ()  # columns that the names of its folders give
    damaged: Damaged = "refuse"


Block = tuple[Piece, ...]


@dataclass(frozen=True)
class Corpus:
    """Files of one schema, cut into blocks."""

    path: str
    schema: pa.Schema
    blocks: tuple[Block, ...]
    rows: int  # estimated for compressed files, CSV and JSON arrays


def open_corpus(path: str, required: dict[str, str], *, damaged: Damaged = "refuse", thorough: bool = False) -> Corpus:
    """Return the corpus at `path`: a file, folder, glob or fsspec URL. `required` is option -> column.

    `thorough` looks at every line of JSONL for columns and types, not only at the first ones of each file.

    Raises:
        InputError: no file, no rows, a file that cannot be read, columns that cannot be joined, or a column that is missing.
    """
    files = data_files(path)
    schemas: list[tuple[str, pa.Schema]] = []
    pieces: list[Piece] = []
    for file in files:
        if (form := format_of(file.url)) is None:
            raise InputError(f"{file.url}: found an unknown ending, expected one of {ACCEPTED}. Rename or convert it.")
        cut = {"parquet": _parquet, "jsonl": _lines}.get(form, _rows)
        try:
            schema, its_pieces = cut(file, damaged, thorough)
        except READ_ERRORS as error:
            raise InputError(f"{file.url}: cannot be read: {error}. Repair the file, or take it out of {path}.") from None
        folders = tuple((name, value) for name, value in partitions(file.relative).items() if name not in schema.names)
        schemas.append((file.url, pa.schema([*schema, *((name, pa.string()) for name, _ in folders)])))
        pieces += (piece._replace(folders=folders, damaged=damaged) for piece in its_pieces)
    if not (rows := sum(piece.rows for piece in pieces)):
        raise InputError(f"{path}: found no rows in {len(files)} files, expected at least one.")
    schema = join(schemas)
    for option, column in required.items():
        if type_of(schema, column) is None:
            hint = did_you_mean(column, schema.names)
            raise InputError(f"{path}: found columns {schema.names}, expected {column!r}.{hint} Name the right one with {option}.")
    return Corpus(path, schema, tuple(_packed(pieces, BLOCK_ROWS, BLOCK_BYTES)), rows)


def type_of(schema: pa.Schema, column: str) -> pa.DataType | None:
    """Return the type of a column, perhaps one in a struct (`data.text`); None if there is none."""
    if column in schema.names:
        return schema.field(column).type
    kind: Any = pa.struct(list(schema))
    for part in column.split("."):
        if not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    return kind


def read(block: Block, schema: pa.Schema, columns: list[str], *, row_id: str | None = None) -> pa.Table:
    """Return `columns` of the rows of `block` that can be read; column `row_id`, if given, is `FILE:ROW`, with rows from 0.

    Raises:
        InputError: a file cannot be read.
        SchemaDrift: a row does not fit `schema`.
    """
    return read_all(block, schema, columns, row_id=row_id)[0]


def read_all(block: Block, schema: pa.Schema, columns: list[str], *, row_id: str | None = None) -> tuple[pa.Table, pa.Table]:
    """Return what `read` returns, and the REJECTS of `block`."""
    roots = [name for name in schema.names if name in columns or any(column.startswith(f"{name}.") for column in columns)]
    types = pa.schema([schema.field(name) for name in roots])
    tables, rejects = [], []
    for piece in block:
        try:
            found, numbers, bad = READERS[piece.form](piece, schema, roots)
            for name, value in piece.folders:
                found = found.append_column(name, pa.repeat(pa.scalar(value, pa.string()), len(found)))
            table = conform(found, types)
        except SchemaDrift as error:
            raise SchemaDrift(f"{piece.url}: {error}. Give rows of one kind, or convert them first.") from None
        except READ_ERRORS as error:
            raise InputError(f"{piece.url}: cannot be read from row {piece.first + 1} on: {error}. Repair the file.") from None
        table = pa.table({name: table[name] if name in roots else _nested(table, name) for name in columns})
        if row_id is not None:
            rows = range(len(table)) if numbers is None else numbers
            table = table.append_column(row_id, pa.array([f"{piece.name}:{piece.first + row}" for row in rows], pa.string()))
        tables.append(table)
        rejects += [{"source": piece.name, **row._asdict(), "raw": row.text} for row in bad]
    return pa.concat_tables(tables), pa.Table.from_pylist(rejects, schema=REJECTS)


def _nested(table: pa.Table, column: str) -> pa.ChunkedArray:
    root, *parts = column.split(".")
    return pc.struct_field(table[root], parts)


def _parquet(file: DataFile, damaged: Damaged, thorough: bool) -> tuple[pa.Schema, list[Piece]]:
    with open_binary(file.url) as opened:
        footer = pq.ParquetFile(opened)
        meta, schema = footer.metadata, footer.schema_arrow.remove_metadata()
    groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
    starts = accumulate((group.num_rows for group in groups), initial=0)
    pieces = [
        Piece(file.url, file.relative, "parquet", first, group.num_rows, group.total_byte_size, (number,))
        for number, (group, first) in enumerate(zip(groups, starts, strict=False))
    ]
    return schema, [_merged(few) for few in _packed(pieces, BLOCK_ROWS // 8, BLOCK_BYTES // 8)]


def _lines(file: DataFile, damaged: Damaged, thorough: bool) -> tuple[pa.Schema, list[Piece]]:
    with open_binary(file.url) as opened:
        head, _ = _content(opened, SAMPLE, damaged)
        if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
            return _rows(file, damaged, thorough)
        if compression_of(file.url):
            pieces = [Piece(file.url, file.relative, "lines", 0, head.count(b"\n") or 1, BLOCK_BYTES)]
            schema = _schema(head + (_content(opened, None, damaged)[0] if thorough else b""))
            return schema, pieces if head.strip() else []
        opened.seek(0)
        pieces, schema = [], _schema(head)
        first = start = 0
        while part := opened.read(BLOCK_BYTES):
            part += opened.readline()
            rows = part.count(b"\n") + (not part.endswith(b"\n"))
            pieces.append(Piece(file.url, file.relative, "lines", first, rows, len(part), (), start, start + len(part)))
            first, start = first + rows, start + len(part)
            schema = lines.join_lines(schema, _schema(part)) if thorough else schema
        return schema, pieces if head.strip() else []


def _rows(file: DataFile, damaged: Damaged, thorough: bool) -> tuple[pa.Schema, list[Piece]]:
    names = formats.columns(file.url)
    if names is not None:
        schema = pa.schema([(name, pa.string()) for name in dict.fromkeys(names)])
        has_rows = next(formats.read(file.url, damaged=damaged), None) is not None
    else:
        rows = [row.fields for row in formats.read(file.url, damaged=damaged) if not row.reason]
        schema, has_rows = lines.schema_of(rows), bool(rows)
    size = size_of(file.url)
    return schema, [Piece(file.url, file.relative, "rows", 0, max(1, size // 200), size)] if has_rows else []


def _schema(data: bytes) -> pa.Schema:
    return lines.infer(data, read_json(io.BytesIO(data), every)) if data.strip() else pa.schema([])


def _content(file: Any, size: int | None, damaged: Damaged) -> tuple[bytes, str]:
    """Return at least `size` bytes of whole lines, or all that is left; of a damaged file the lines before, and what is wrong."""
    parts: list[bytes] = []
    have = 0
    try:
        while (size is None or have < size) and (part := file.read1(SAMPLE)):
            parts.append(part)
            have += len(part)
        return b"".join(parts) + file.readline(), ""
    except READ_ERRORS as error:
        whole = b"".join(parts).rpartition(b"\n")[0] + b"\n"
        if damaged == "refuse":
            raise ValueError(
                f"it is damaged after line {whole.count(NEWLINE)}: {error}; --damaged keep takes those lines"
            ) from None
        return whole, f"the file is damaged from here on: {error}"


def _packed(pieces: list[Piece], rows: int, bytes: int) -> Iterator[Block]:
    """Yield the pieces in blocks of at most `rows` and `bytes`, each as large as allowed; a larger piece is a block of its own."""
    block: list[Piece] = []
    sizes = (0, 0)
    for piece in pieces:
        sizes = (sizes[0] + piece.rows, sizes[1] + piece.bytes)
        if block and (sizes[0] > rows or sizes[1] > bytes):
            yield tuple(block)
            block, sizes = [], (piece.rows, piece.bytes)
        block.append(piece)
    if block:
        yield tuple(block)


def _merged(groups: Block) -> Piece:
    """Return small row groups of one file as one piece: fine enough for even blocks, and few enough to be listed."""
    rows, size = sum(group.rows for group in groups), sum(group.bytes for group in groups)
    return groups[0]._replace(rows=rows, bytes=size, groups=tuple(number for group in groups for number in group.groups))


Found = tuple[pa.Table, list[int] | None, list[RawRow]]
"""The rows of a piece, their numbers in it from 0 (None: all rows in order), and those that cannot be read."""


def _read_groups(piece: Piece, schema: pa.Schema, columns: list[str]) -> Found:
    # What can be read must not depend on `columns`: a page of any column may be damaged, and rows are known by their places.
    options = {"columns": columns if piece.damaged == "refuse" else None, "use_threads": False}
    # Memory-mapped: a third less work than a Python file.
    with open_binary(piece.url) if "://" in piece.url else nullcontext(piece.url) as source:
        file = pq.ParquetFile(source, memory_map=source is piece.url, pre_buffer=source is not piece.url)
        names = [name for name in file.schema_arrow.names if name in columns]
        try:
            return file.read_row_groups(list(piece.groups), **options).select(names), None, []
        except READ_ERRORS:
            if piece.damaged == "refuse":
                raise
        tables, numbers, bad, first = [], [], [], 0
        for group in piece.groups:
            rows = range(first, first := first + file.metadata.row_group(group).num_rows)
            try:
                tables.append(file.read_row_group(group, **options).select(names))
                numbers += rows
            except READ_ERRORS as error:
                line = piece.first + rows.start + 1
                detail = f"the file is damaged here: rows {line} to {piece.first + rows.stop}: {error}"
                bad.append(RawRow(line, {}, "", "unreadable", detail))
        return pa.concat_tables(tables) if tables else file.schema_arrow.empty_table().select(names), numbers, bad


def _read_lines(piece: Piece, schema: pa.Schema, columns: list[str]) -> Found:
    problem = ""
    with open_binary(piece.url) as file:
        if piece.stop is not None:
            file.seek(piece.start)
            data = file.read(piece.stop - piece.start)
        else:
            data, problem = _content(file, None, piece.damaged)
    end = [RawRow(data.count(NEWLINE) + 1, {}, "", "unreadable", problem)] if problem else []
    mine = pa.schema([field for field in schema if field.name not in dict(piece.folders)])
    try:
        return lines.parse(data, mine), None, end
    except lines.ERRORS:
        table, numbers, bad = _table(read_json(io.BytesIO(data), every), mine, piece.first)
        return table, numbers, bad + end


def _read_rows(piece: Piece, schema: pa.Schema, columns: list[str]) -> Found:
    mine = pa.schema([field for field in schema if field.name not in dict(piece.folders)])
    return _table(formats.read(piece.url, damaged=piece.damaged), mine, 0)


def _table(rows: Iterator[RawRow], schema: pa.Schema, first: int) -> Found:
    good: list[RawRow] = []
    bad: list[RawRow] = []
    numbers: list[int] = []
    for number, row in enumerate(rows):
        if row.reason:
            bad.append(row._replace(line=row.line + first))
        else:
            good.append(row)
            numbers.append(number)
    return lines.table_of([row.fields for row in good], schema), numbers, bad


READERS = {"parquet": _read_groups, "lines": _read_lines, "rows": _read_rows}
