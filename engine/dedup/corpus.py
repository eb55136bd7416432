"""A corpus of Parquet or JSONL files, cut into blocks that tasks read themselves; the driver reads names, sizes and schemas."""

import glob
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import InputError

BLOCK_ROWS = 65_536  # most rows of a block of Parquet, in whole row groups
BLOCK_BYTES = 64 << 20  # most bytes of a block, unless a single row group or compressed file has more
SAMPLE = 1 << 20  # bytes of JSONL from which the columns are inferred
COMPRESSION = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}


class Piece(NamedTuple):
    """A part of one file: row groups of Parquet, or the bytes of whole lines of JSONL."""

    url: str
    name: str  # of the file, in ids of rows without an id column
    first: int  # first row, from 0
    rows: int
    bytes: int  # in memory
    groups: tuple[int, ...] = ()  # of Parquet; () for JSONL
    start: int = 0
    stop: int | None = None  # None: to the end of the decompressed file


Block = tuple[Piece, ...]


@dataclass(frozen=True)
class Corpus:
    """Files of one schema, cut into blocks."""

    path: str
    schema: pa.Schema
    blocks: tuple[Block, ...]
    rows: int  # estimated for compressed JSONL


def open_corpus(path: str, required: dict[str, str]) -> Corpus:
    """Return the corpus at `path`: a Parquet or JSONL file, folder, glob or fsspec URL. `required` is option -> column.

    Raises:
        InputError: no file, no rows, a file that cannot be read, files of different columns, or a column that is missing.
    """
    files = list_files(path)
    schema: pa.Schema | None = None
    pieces: list[Piece] = []
    for name, url in files.items():
        try:
            its_schema, cut = _parquet(name, url) if name.endswith(".parquet") else _lines(name, url, schema)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{url}: cannot be read: {error}. Repair the file, or take it out of {path}.") from None
        schema = its_schema if schema is None else schema
        _compare(schema, its_schema, url, reference=next(iter(files.values())))
        pieces += cut
    assert schema is not None
    if not (rows := sum(piece.rows for piece in pieces)):
        raise InputError(f"{path}: found no rows in {len(files)} files, expected at least one.")
    for option, column in required.items():
        if column not in schema.names:
            raise InputError(f"{path}: found columns {schema.names}, expected {column!r}. Name the right one with {option}.")
    return Corpus(path, schema, tuple(_packed(pieces, BLOCK_ROWS, BLOCK_BYTES)), rows)


def list_files(path: str) -> dict[str, str]:
    """Return name -> URL of the files at `path`, sorted by name.

    Raises:
        InputError: there is none, or the storage cannot be reached.
    """
    whole = path if "://" in path else str(Path(path).expanduser().absolute())
    try:
        fs, inside = fsspec.url_to_fs(whole)
        paths = fs.glob(inside) if glob.has_magic(inside) else fs.find(inside)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{path}: cannot be reached: {error}.") from None
    files = sorted(str(name) for name in paths if str(name) == inside or is_readable(str(name)))
    if not files:
        raise InputError(f"{path}: found no file that ends in .parquet or .jsonl there, expected a file, folder or glob of them.")
    wildcards = [inside.index(wildcard) for wildcard in "*?[" if wildcard in inside] if glob.has_magic(inside) else []
    stem = inside[: min(wildcards, default=len(inside))]
    stem = stem.rstrip("/") + "/" if files != [inside] else inside.rpartition("/")[0] + "/"
    return {name.removeprefix(stem).lstrip("/"): name if "://" not in whole else fs.unstrip_protocol(name) for name in files}


def is_readable(name: str) -> bool:
    """Return whether a name ends like Parquet or JSONL, compressed or not. Names that start with . or _ are skipped."""
    inner = name.removesuffix(_compression(name))
    return inner.endswith((".parquet", ".jsonl", ".ndjson")) and not name.rpartition("/")[2].startswith((".", "_"))


def read(block: Block, schema: pa.Schema, columns: list[str], *, row_id: str | None = None) -> pa.Table:
    """Return `columns` of the rows of `block`; column `row_id`, if given, is `FILE:ROW`, with rows from 0.

    Raises:
        InputError: a file cannot be read, or has a row that does not fit `schema`.
    """
    types = pa.schema([schema.field(name) for name in columns]).remove_metadata()
    tables = []
    for piece in block:
        try:
            table = _read_groups(piece, columns) if piece.groups else _read_lines(piece, schema).select(columns)
        except (OSError, ValueError, EOFError, pa.ArrowException) as error:
            raise InputError(f"{piece.url}: cannot be read from row {piece.first + 1} on: {error}. Repair the file.") from None
        table = table.cast(types)
        if row_id is not None:
            table = table.append_column(row_id, pa.array([f"{piece.name}:{piece.first + row}" for row in range(table.num_rows)]))
        tables.append(table)
    return pa.concat_tables(tables)


def _parquet(name: str, url: str) -> tuple[pa.Schema, list[Piece]]:
    with fsspec.open(url, "rb") as file:
        opened = pq.ParquetFile(file)
        meta, schema = opened.metadata, opened.schema_arrow.remove_metadata()
    groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
    starts = accumulate((group.num_rows for group in groups), initial=0)
    pieces = [
        Piece(url, name, first, group.num_rows, group.total_byte_size, (number,))
        for number, (group, first) in enumerate(zip(groups, starts, strict=False))
    ]
    return schema, [_merged(few) for few in _packed(pieces, BLOCK_ROWS // 8, BLOCK_BYTES // 8)]


def _lines(name: str, url: str, schema: pa.Schema | None) -> tuple[pa.Schema, list[Piece]]:
    compression = COMPRESSION.get(_compression(name))
    with fsspec.open(url, "rb", compression=compression) as file:
        head = file.read(SAMPLE)
        if len(head) == SAMPLE:
            head += file.readline()
        schema = schema or (_parse(head).schema if head.strip() else pa.schema([]))
        if compression:
            return schema, [Piece(url, name, 0, head.count(b"\n") or 1, BLOCK_BYTES)]
        file.seek(0)
        return schema, list(_cuts(file, url, name))


def _cuts(file: Any, url: str, name: str) -> Iterator[Piece]:
    first = start = 0
    while part := file.read(BLOCK_BYTES):
        part += file.readline()
        rows = part.count(b"\n") + (not part.endswith(b"\n"))
        yield Piece(url, name, first, rows, len(part), (), start, start + len(part))
        first, start = first + rows, start + len(part)


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


def _compare(expected: pa.Schema, actual: pa.Schema, url: str, *, reference: str) -> None:
    if not actual.equals(expected):
        ours, theirs = ({f"{field.name}: {field.type}" for field in schema} for schema in (expected, actual))
        raise InputError(
            f"{url}: found other columns than in {reference}: {sorted(theirs - ours)} instead of {sorted(ours - theirs)}, in the "
            "same order. Give files of one kind only, or convert them first."
        )


def _read_groups(piece: Piece, columns: list[str]) -> pa.Table:
    if "://" not in piece.url:  # memory-mapped: a third less work than a Python file
        return pq.ParquetFile(piece.url, memory_map=True).read_row_groups(list(piece.groups), columns=columns, use_threads=False)
    with fsspec.open(piece.url, "rb") as file:
        return pq.ParquetFile(file, pre_buffer=True).read_row_groups(list(piece.groups), columns=columns, use_threads=False)


def _read_lines(piece: Piece, schema: pa.Schema) -> pa.Table:
    with fsspec.open(piece.url, "rb", compression=COMPRESSION.get(_compression(piece.url))) as file:
        file.seek(piece.start)
        data = file.read(piece.stop - piece.start if piece.stop is not None else -1)
    return _parse(data, schema) if data.strip() else schema.empty_table()


def _parse(data: bytes, schema: pa.Schema | None = None) -> pa.Table:
    from pyarrow import json

    reading = json.ReadOptions(use_threads=False, block_size=len(data) + 1)  # one block: a line may have any length
    parsing = json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error" if schema else "infer")
    return json.read_json(io.BytesIO(data), read_options=reading, parse_options=parsing)


def _compression(name: str) -> str:
    return next((ending for ending in COMPRESSION if name.endswith(ending)), "")
