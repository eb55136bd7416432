"""Tables as Parquet shards in a folder: written whole, counted, hashed, read by column, migrated from older schema versions.

A shard is named after its content, so that a retried write replaces itself. It appears under its name only when it is complete.
Its metadata say what is declared of its columns, and nothing that differs between jobs: equal rows are equal bytes.
"""

import hashlib
import io
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from pydantic_core import to_json

from engine.columns import about, documented, key_columns, own_metadata, plain
from engine.errors import StorageError
from engine.records.record import Shard, Table
from engine.rows import VERSION, conform
from engine.storage.folder import Folder
from engine.storage.migrations import migrate

ROW_GROUP = 16_384
"""Most rows of a row group: what a reader decodes to find one row; nested columns of larger ones break readers that chunk them."""
FALSE_POSITIVES = 0.01
"""Share of row groups that a reader opens in vain for an id, by their Bloom filters."""


def write_shard(folder: Folder, table: pa.Table, schema: pa.Schema, *, prefix: str = "part", durable: bool = False) -> Shard:
    """Write `table` as one Parquet file of exactly `schema` into `folder`; the shard's path is relative to `folder`.

    `durable`: it is on the disk when this returns. The shards of an artifact need not be: its record waits for them.

    Raises:
        KeyError: a column of `schema` is not in `table`.
        StorageError: the folder cannot be written.
    """
    rows = conform(table, schema)
    data = parquet_bytes(rows)
    digest = hashlib.sha256(data).hexdigest()
    name = f"{prefix}-{digest[:20]}.parquet"
    folder.write(name, data, durable=durable)
    return Shard(path=name, rows=table.num_rows, bytes=len(data), sha256=digest, nan=nan_values(rows))


def parquet_bytes(rows: pa.Table) -> bytes:
    """Return `rows` as a Parquet file, without statistics of columns of floats: these leave NaN out, and DuckDB believes them.

    The file has what is declared of the schema as metadata of fields and of the file, and a Bloom filter for each column of ids,
    which are hashes in no order, so that no statistics tell where one is. Columns of bytes, arrays that are written once and read
    often, are compressed more.
    """
    buffer = io.BytesIO()
    described = documented(rows.schema, version=VERSION)
    counted = [path for path, kind in _leaves(rows.schema) if not pa.types.is_floating(kind)]
    packed = {field.name: 9 for field in rows.schema if pa.types.is_binary(field.type)}
    distinct = {"ndv": max(1, min(len(rows), ROW_GROUP)), "fpp": FALSE_POSITIVES}
    options: Any = {
        "write_statistics": counted,
        **({"compression_level": packed} if packed else {}),
        **({"bloom_filter_options": dict.fromkeys(keys, distinct)} if (keys := key_columns(described)) else {}),
    }  # pyarrow's stubs know a bool alone
    own = own_metadata(described)
    schema = described.with_metadata(own or None)  # the others are added to the file below, else they would be in it twice
    with pq.ParquetWriter(buffer, schema, compression="zstd", write_page_index=True, **options) as writer:
        if rows.num_rows:  # `datasets` cannot read an empty row group, but a file without any
            writer.write_table(rows.cast(schema), row_group_size=ROW_GROUP)
        if declared := {key: value for key, value in (described.metadata or {}).items() if key not in own}:
            writer.add_key_value_metadata(declared)
    return buffer.getvalue()


def split_rows(rows: pa.Table, schema: pa.Schema) -> list[tuple[str, pa.Table]]:
    """Return (prefix, rows) of each shard for `rows` of one table: one for each value of the column by which it is declared split.

    Shards of a table that is not split begin with `part`, others with the value. The order of the rows stays.
    """
    column = about(documented(schema, version=VERSION).metadata).get("split")
    if not column or not rows.num_rows:
        return [("part", rows)]
    return [(str(value), rows.filter(pc.equal(rows[column], value))) for value in sorted(pc.unique(rows[column]).to_pylist())]


def nan_values(rows: pa.Table) -> dict[str, int]:
    """Return column -> number of NaN, of the columns of floats, also those in lists and structs, that have some."""
    counts: dict[str, int] = {}
    for name in rows.column_names:
        for chunk in rows[name].chunks:
            for path, values in _floats(name, chunk):
                if found := pc.sum(pc.is_nan(values)).as_py():
                    counts[path] = counts.get(path, 0) + found
    return counts


def _floats(path: str, values: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    if pa.types.is_floating(values.type):
        yield path, values
    elif pa.types.is_struct(values.type):
        for field, inner in zip(values.type, values.flatten(), strict=True):
            yield from _floats(f"{path}.{field.name}", inner)
    elif pa.types.is_list(values.type):
        yield from _floats(path, values.flatten())


def _leaves(fields: Iterable[pa.Field], parent: str = "") -> Iterator[tuple[str, pa.DataType]]:
    """Yield the path in a Parquet file, and the type, of every column that holds values."""
    for field in fields:
        path, kind = f"{parent}{field.name}", field.type
        if pa.types.is_struct(kind):
            yield from _leaves(kind, f"{path}.")
        elif pa.types.is_list(kind):
            yield from _leaves([kind.value_field.with_name("element")], f"{path}.list.")
        else:
            yield path, kind


def read_shard(folder: Folder, shard: Shard, columns: Sequence[str] | None = None, *, version: int = VERSION) -> pa.Table:
    """Return the rows of `shard`, which schema `version` wrote, in the current version; only `columns` if given.

    Raises:
        StorageError: the file is missing or is not Parquet, or the store cannot be reached.
    """
    wanted = list(columns) if columns else None
    try:
        with folder.open(shard.path) as file:
            # use_threads=False: with threads, one process in forty aborts if it exits soon after.
            rows = pq.ParquetFile(file).read(columns=wanted if version == VERSION else None, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{folder}/{shard.path}: damaged or missing: {error}. Delete the artifact and run again.") from None
    rows = migrate(rows.cast(plain(rows.schema)), version)
    return rows.select(wanted) if wanted else rows


def table_of(shards: Sequence[Shard], digest: str) -> Table:
    """Return the table of the current schema version that consists of `shards`; `digest` is that of all their rows."""
    ordered = sorted(shards)
    return Table(VERSION, sum(shard.rows for shard in ordered), sum(shard.bytes for shard in ordered), digest, ordered)


def write_table(folder: Folder, table: pa.Table, schema: pa.Schema, *, shard_rows: int = 50_000) -> Table:
    """Write `table`, which fits in memory, in shards of at most `shard_rows` rows. An empty table gets one shard, with its
    columns."""
    slices = [table.slice(start, shard_rows) for start in range(0, max(table.num_rows, 1), shard_rows)]
    parts = [part for rows in slices for part in split_rows(rows, schema)]
    shards = [write_shard(folder, rows, schema, prefix=prefix) for prefix, rows in parts]
    return table_of(shards, hex_digest(rows_digest(table)))


def write_pieces(folder: Folder, pieces: Iterable[pa.Table], schema: pa.Schema, *, shard_rows: int = 8192) -> Table:
    """Write the rows of `pieces`, one after the other, in shards of about `shard_rows` rows; `iterate` keeps their order.

    One shard is in memory at a time.
    """
    shards: list[Shard] = []
    held: list[pa.Table] = []
    digest = 0

    def flush() -> None:
        rows = pa.concat_tables([schema.empty_table(), *held])
        shards.append(write_shard(folder, rows, schema, prefix=f"part-{len(shards):05d}"))
        held.clear()

    for piece in pieces:
        held.append(conform(piece, schema))
        digest += rows_digest(held[-1])
        if sum(map(len, held)) >= shard_rows:
            flush()
    if held or not shards:
        flush()
    return table_of(shards, hex_digest(digest))


def sorted_rows(folder: Folder, table: Table, schema: pa.Schema, *, by: str, rows: int = 1024) -> Iterator[pa.Table]:
    """Yield the columns of `schema` of `table` in the order of column `by`, at most `rows` at a time.

    DuckDB sorts, and uses the disk where memory does not suffice.
    """
    import duckdb  # not at the top: few jobs sort more than fits in memory

    shards = (conform(piece, schema) for piece in iterate(folder, table, schema.names))
    reader = pa.RecordBatchReader.from_batches(schema, (batch for shard in shards for batch in shard.to_batches()))
    with (
        tempfile.TemporaryDirectory() as spill,
        duckdb.connect(config={"temp_directory": spill, "memory_limit": "2GB"}) as connection,
    ):
        for batch in connection.from_arrow(reader).order(by).to_arrow_reader(rows):
            yield pa.Table.from_batches([batch]).cast(schema)


def read_table(folder: Folder, table: Table, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Return all rows of `table`, which fit in memory; only `columns` if given."""
    wanted = pa.schema([schema.field(name) for name in columns]) if columns else schema
    shards = [conform(rows, wanted) for rows in iterate(folder, table, columns)]
    return pa.concat_tables(shards) if shards else wanted.empty_table()


def iterate(folder: Folder, table: Table, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield `table` shard by shard, in the current schema version."""
    for shard in table.shards:
        yield read_shard(folder, shard, columns, version=table.schema_version)


def rows_digest(table: pa.Table) -> int:
    """Return the sum, modulo 2^128, of the hashes of the rows: equal for any order and any split into shards.

    The column `seconds` is left out: a measured time is not content.
    """
    columns = sorted(column for column in table.column_names if column != "seconds")
    return sum(xxhash.xxh3_128_intdigest(to_json(row, bytes_mode="base64")) for row in table.select(columns).to_pylist()) % 2**128


def hex_digest(total: int) -> str:
    """Return a digest, or a sum of digests, as 32 hex digits."""
    return f"{total % 2**128:032x}"
