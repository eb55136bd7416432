"""A corpus of Parquet or JSONL files, cut into blocks that tasks read by themselves: the driver sees names, sizes and schemas."""

import glob
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import InputError

BLOCK_ROWS = 65_536  # of Parquet: whole row groups up to so many rows
BLOCK_BYTES = 64 << 20  # of a file: a block holds no more, unless a single row group or packed file does
SAMPLE = 1 << 20  # bytes of JSONL from which its columns are known
PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}


class Piece(NamedTuple):
    """A part of one file: row groups of Parquet, or the bytes of whole lines of JSONL."""

    url: str
    name: str  # as rows without an id call the file
    first: int  # row of the file that it begins with, from 0
    rows: int
    bytes: int  # in memory
    groups: tuple[int, ...] = ()  # none: it is JSONL
    start: int = 0
    stop: int | None = None  # None: to the end, unpacked


Block = tuple[Piece, ...]


@dataclass(frozen=True)
class Corpus:
    """Files of one schema, cut into blocks."""

    path: str
    schema: pa.Schema
    blocks: tuple[Block, ...]
    rows: int  # of JSONL that is packed about as many as its bytes hold


def open_corpus(path: str, wanted: dict[str, str]) -> Corpus:
    """Return the corpus at `path`: a Parquet or JSONL file, folder, glob or fsspec URL. `wanted` says what needs which column.

    Raises:
        InputError: no file, no rows, a file that cannot be read, files of different columns, or a column that is missing.
    """
    files = locate(path)
    schema: pa.Schema | None = None
    pieces: list[Piece] = []
    for name, url in files.items():
        try:
            found, cut = _parquet(name, url) if name.endswith(".parquet") else _lines(name, url, schema)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{url}: cannot be read: {error}. Mend the file, or take it out of {path}.") from None
        schema = found if schema is None else schema
        _compare(schema, found, url, first=next(iter(files.values())))
        pieces += cut
    assert schema is not None
    if not (rows := sum(piece.rows for piece in pieces)):
        raise InputError(f"{path}: found no rows in {len(files)} files, expected at least one.")
    for option, column in wanted.items():
        if column not in schema.names:
            raise InputError(f"{path}: found columns {schema.names}, expected {column!r}. Name the right one with {option}.")
    return Corpus(path, schema, tuple(_together(pieces)), rows)


def locate(path: str) -> dict[str, str]:
    """Return name -> URL of the files that `path` means, by name.

    Raises:
        InputError: there is none, or the place cannot be reached.
    """
    whole = path if "://" in path else str(Path(path).expanduser().absolute())
    try:
        fs, inside = fsspec.url_to_fs(whole)
        found = fs.glob(inside) if glob.has_magic(inside) else fs.find(inside)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{path}: cannot be reached: {error}.") from None
    files = sorted(str(one) for one in found if str(one) == inside or is_readable(str(one)))
    if not files:
        raise InputError(f"{path}: found no file that ends in .parquet or .jsonl there, expected a file, folder or glob of them.")
    stem = inside if not glob.has_magic(inside) else inside[: min(inside.index(sign) for sign in "*?[" if sign in inside)]
    stem = stem.rstrip("/") + "/" if files != [inside] else inside.rpartition("/")[0] + "/"
    return {one.removeprefix(stem).lstrip("/"): one if "://" not in whole else fs.unstrip_protocol(one) for one in files}


def is_readable(name: str) -> bool:
    """Return whether a file's ending says Parquet or JSONL, packed or not; hidden files and those of a writer at work are none."""
    inner = name.removesuffix(_packing(name))
    return inner.endswith((".parquet", ".jsonl", ".ndjson")) and not name.rpartition("/")[2].startswith((".", "_"))


def read(block: Block, schema: pa.Schema, columns: list[str], *, row_id: str | None = None) -> pa.Table:
    """Return `columns` of the rows of `block`, and as column `row_id` the name of its file and its row from 0.

    Raises:
        InputError: a file cannot be read, or has a row that does not fit `schema`.
    """
    wanted = pa.schema([schema.field(name) for name in columns]).remove_metadata()
    tables = []
    for piece in block:
        try:
            table = _read_groups(piece, columns) if piece.groups else _read_lines(piece, schema).select(columns)
        except (OSError, ValueError, EOFError, pa.ArrowException) as error:
            raise InputError(f"{piece.url}: cannot be read from row {piece.first + 1} on: {error}. Mend the file.") from None
        table = table.cast(wanted)
        if row_id is not None:
            table = table.append_column(row_id, pa.array([f"{piece.name}:{piece.first + row}" for row in range(table.num_rows)]))
        tables.append(table)
    return pa.concat_tables(tables)


def _parquet(name: str, url: str) -> tuple[pa.Schema, list[Piece]]:
    with fsspec.open(url, "rb") as file:
        opened = pq.ParquetFile(file)
        meta, schema = opened.metadata, opened.schema_arrow.remove_metadata()
    cut: list[Piece] = []
    first = 0
    for number in range(meta.num_row_groups):
        group = meta.row_group(number)
        cut.append(Piece(url, name, first, group.num_rows, group.total_byte_size, (number,)))
        first += group.num_rows
    return schema, list(_merged(cut))


def _lines(name: str, url: str, schema: pa.Schema | None) -> tuple[pa.Schema, list[Piece]]:
    packing = PACKED.get(_packing(name))
    with fsspec.open(url, "rb", compression=packing) as file:
        head = file.read(SAMPLE)
        if len(head) == SAMPLE:
            head += file.readline()
        schema = schema or (_parse(head).schema if head.strip() else pa.schema([]))
        if packing:
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


def _together(pieces: list[Piece]) -> Iterator[Block]:
    """Yield the pieces in blocks, as full as they may be."""
    block: list[Piece] = []
    for piece in pieces:
        size = sum(one.bytes for one in block) + piece.bytes
        if block and (sum(one.rows for one in block) + piece.rows > BLOCK_ROWS or size > BLOCK_BYTES):
            yield tuple(block)
            block = []
        block.append(piece)
    yield tuple(block)


def _merged(groups: list[Piece]) -> Iterator[Piece]:
    """Yield row groups of one file, few together: enough to make even blocks of, few enough to be listed."""
    held: Piece | None = None
    for one in groups:
        if held and held.rows + one.rows <= BLOCK_ROWS // 8 and held.bytes + one.bytes <= BLOCK_BYTES // 8:
            held = held._replace(rows=held.rows + one.rows, bytes=held.bytes + one.bytes, groups=held.groups + one.groups)
            continue
        if held:
            yield held
        held = one
    if held:
        yield held


def _compare(expected: pa.Schema, found: pa.Schema, url: str, *, first: str) -> None:
    if not found.equals(expected):
        ours = {f"{field.name}: {field.type}" for field in expected}
        theirs = {f"{field.name}: {field.type}" for field in found}
        raise InputError(
            f"{url}: found other columns than in {first}: {sorted(theirs - ours)} instead of {sorted(ours - theirs)}, in the same "
            "order. Give files of one kind only, or convert them first."
        )


def _read_groups(piece: Piece, columns: list[str]) -> pa.Table:
    if "://" not in piece.url:  # mapped into memory: a third less work than through Python's file
        return pq.ParquetFile(piece.url, memory_map=True).read_row_groups(list(piece.groups), columns=columns, use_threads=False)
    with fsspec.open(piece.url, "rb") as file:
        return pq.ParquetFile(file, pre_buffer=True).read_row_groups(list(piece.groups), columns=columns, use_threads=False)


def _read_lines(piece: Piece, schema: pa.Schema) -> pa.Table:
    with fsspec.open(piece.url, "rb", compression=PACKED.get(_packing(piece.url))) as file:
        file.seek(piece.start)
        data = file.read(piece.stop - piece.start if piece.stop is not None else -1)
    return _parse(data, schema) if data.strip() else schema.empty_table()


def _parse(data: bytes, schema: pa.Schema | None = None) -> pa.Table:
    from pyarrow import json

    reading = json.ReadOptions(use_threads=False, block_size=len(data) + 1)  # one block: a line may be as long as it likes
    parsing = json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error" if schema else "infer")
    return json.read_json(io.BytesIO(data), read_options=reading, parse_options=parsing)


def _packing(name: str) -> str:
    return next((ending for ending in PACKED if name.endswith(ending)), "")
