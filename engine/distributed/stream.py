"""Rows of an artifact through functions on pools into the table of another. The driver sees manifests only, never rows."""

import gc
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from engine.columns import documented
from engine.contract.profile import Pool
from engine.distributed import metrics
from engine.distributed.blocks import Blocks, cut
from engine.distributed.in_process import threads
from engine.distributed.rows import Ref, Rows
from engine.records.record import Shard, Table
from engine.rows import VERSION, Row
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder
from engine.storage.shards import hex_digest, read_shard, rows_digest, split_rows, table_of, write_shard

Op = Callable[..., pa.Table | Iterator[pa.Table]]


class Progress(Protocol):
    """A callback that takes the counts of newly finished rows and of their output tokens."""

    def __call__(self, rows: int, tokens: int) -> None: ...


@dataclass(frozen=True)
class Target:
    """Where rows are written: every block becomes a shard of `schema` in `folder`."""

    folder: Folder
    schema: pa.Schema
    label: str | None = None
    """Column whose values are counted."""
    shard: Sequence[str] = ()
    """A column, then columns to sort by. Rows with one value of the first column, which must be in one block, become one shard,
    sorted by the other columns and then by the first column of `schema`."""
    summarize: Callable[[pa.Table], Any] | None = None
    """Returns plain JSON values of the rows of a shard, called where the shard is written."""


@dataclass
class Written:
    """The result of a stream: the table's manifest, rows per value of `Target.label`, and output tokens."""

    table: Table
    labels: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    summaries: list[Any] = field(default_factory=list)
    """What `Target.summarize` returned for each shard, in the order of `table.shards`."""


def from_items(items: Sequence[Row], blocks: int) -> Rows:
    """Return `items` as rows in `blocks` blocks."""
    if found := threads():
        return Blocks.from_items(found, items, blocks)
    import ray.data

    return ray.data.from_items(list(items), override_num_blocks=blocks)


def read(artifact: Artifact, name: str, pool: Pool, *, rows: int, columns: Sequence[str] | None = None) -> Rows:
    """Stream a table of `artifact` by the tasks of `pool`, in blocks of exactly `rows` rows; a shard's last may be shorter.

    The blocks are the same in every run, so that a model sees the same batches after a crash as before it. What a function returns
    for a block stays one block, however large, so that answers to one prompt stay together.

    Raises:
        ValueError: the table has no rows.
    """
    starts = [(shard, start, rows) for shard in artifact.table(name).shards for start in range(0, shard.rows, rows)]
    return _read(artifact, name, pool, starts, blocks=len(starts), columns=columns)


def scan(artifact: Artifact, name: str, pool: Pool, *, rows: int, columns: Sequence[str] | None = None) -> Rows:
    """Stream a table of `artifact` by the tasks of `pool`, in blocks of whole shards, about `rows` rows each.

    Raises:
        ValueError: the table has no shards.
    """
    shards = artifact.table(name).shards
    blocks = _blocks(shards, rows)
    return _read(artifact, name, pool, [(shard, 0, shard.rows) for shard in shards], blocks=blocks, columns=columns)


def slices(artifact: Artifact, name: str, *, rows: int) -> list[list[Row]]:
    """Return what each block of `scan` reads, for tasks that `load` it together with something else of that block.

    Raises:
        ValueError: the table has no shards.
    """
    shards = artifact.table(name).shards
    if not shards:
        raise ValueError(f"{artifact.folder / name} has no rows")
    items = _slices(artifact.table(name), [(shard, 0, shard.rows) for shard in shards])
    return cut(items, _blocks(shards, rows))


def load(slices: Sequence[Row], folder: Folder, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of `slices` of the table in `folder`; only `columns` if given."""
    pieces = []
    for row in slices:
        shard = read_shard(folder, Shard(row["shard"], 0, 0, ""), columns, version=row["version"])
        pieces.append(shard.slice(row["start"], row["rows"]))
    return pa.concat_tables(pieces)


def of(tables: Sequence[pa.Table]) -> Rows:
    """Return rows with a block for each of `tables`; what a function returns for a block stays one block."""
    if found := threads():
        return Blocks.of(found, tables)
    import ray.data

    rows = ray.data.from_arrow(list(tables))
    rows.context.target_max_block_size = None
    return rows


def of_refs(refs: Sequence[Ref], *, whole: bool = False) -> Rows:
    """Return rows with a block for each of `refs`, references to tables, which are held as long as the rows. If `whole`, what a
    function returns for a block stays one block.

    On Ray their tasks have ended when it returns: a small task for each block, with Ray's default of one CPU, reads its metadata.
    """
    if found := threads():
        return Blocks(found, [ref.result for ref in refs])
    import ray.data

    rows = ray.data.from_arrow_refs(list(refs))
    if whole:
        rows.context.target_max_block_size = None
    return rows


def apply(
    rows: Rows,
    op: Op | type,
    pool: Pool,
    *,
    batch: int | None = None,
    variables: Mapping[str, str] | None = None,
    engine: bool = True,
    **arguments: Any,
) -> Rows:
    """Run `op` with `arguments` over blocks, or batches of `batch` rows: a function as tasks of `pool`, a class as its actors.

    `variables` are added to the environment of the actors. Those that load no `engine` need no environment of their own.
    """
    if isinstance(rows, Blocks):
        return rows.apply(op, batch, arguments)
    from engine.distributed import drain, ray_options  # Ray Data takes two seconds to import

    shape = {"batch_format": "pyarrow", "batch_size": batch}
    if isinstance(op, type):
        options = ray_options.actors(pool, engine=engine)
        if variables:
            options.setdefault("runtime_env", {"env_vars": {}})["env_vars"] |= variables
        return rows.map_batches(drain.careful(op, pool), fn_constructor_kwargs=arguments, **shape, **options)
    return rows.map_batches(op, fn_kwargs=arguments, **shape, **ray_options.tasks(pool))


def write(rows: Rows, target: Target, pool: Pool, *, progress: Progress | None = None) -> Written:
    """Write `rows` to `target` by the tasks of `pool`."""
    # A worker may not have imported the module that declares the columns, so their texts travel with the schema.
    target = replace(target, schema=documented(target.schema, version=VERSION))
    manifest = apply(rows, _save, pool, target=target)
    shards: list[Shard] = []
    summaries: dict[str, Any] = {}
    labels: dict[str, int] = {}
    total = tokens = 0
    for row in manifest.iter_rows():
        if not row["rows"]:
            continue
        shards.append(Shard(row["path"], row["rows"], row["bytes"], row["sha256"], json.loads(row["nan"])))
        summaries[row["path"]] = json.loads(row["summary"])
        total += int(row["digest"], 16)
        tokens += row["tokens"]
        for count in row["labels"]:
            labels[count["label"]] = labels.get(count["label"], 0) + count["rows"]
        if progress:
            progress(row["rows"], row["tokens"])
    table = table_of(shards, hex_digest(total))
    return Written(table, dict(sorted(labels.items())), tokens, [summaries[shard.path] for shard in table.shards])


def _read(
    artifact: Artifact, name: str, pool: Pool, slices: list[tuple[Shard, int, int]], *, blocks: int, columns: Sequence[str] | None
) -> Rows:
    """Stream `slices` (shard, first row, number of rows) in `blocks` blocks."""
    if not slices:
        raise ValueError(f"{artifact.folder / name} has no rows")
    arguments = {"folder": artifact.folder / name, "columns": list(columns) if columns else None}
    rows = from_items(_slices(artifact.table(name), slices), blocks)
    if not isinstance(rows, Blocks):  # else Ray cuts what a function returns at 128 MiB, perhaps in the midst of a prompt's answers
        rows.context.target_max_block_size = None
    return apply(rows, _load, pool, **arguments)


def _blocks(shards: Sequence[Shard], rows: int) -> int:
    return max(1, min(len(shards), sum(shard.rows for shard in shards) // rows))


def _slices(table: Table, slices: Sequence[tuple[Shard, int, int]]) -> list[Row]:
    version = table.schema_version
    return [{"shard": shard.path, "version": version, "start": start, "rows": rows} for shard, start, rows in slices]


def _load(slices: pa.Table, folder: Folder, columns: list[str] | None) -> pa.Table:
    return load(slices.to_pylist(), folder, columns)


_MANIFEST = pa.schema(
    [
        ("path", pa.string()), ("rows", pa.int64()), ("bytes", pa.int64()), ("sha256", pa.string()), ("digest", pa.string()),
        ("tokens", pa.int64()), ("labels", pa.list_(pa.struct([("label", pa.string()), ("rows", pa.int64())]))),
        ("summary", pa.string()), ("nan", pa.string()),
    ]
)  # fmt: skip


def _save(rows: pa.Table, target: Target) -> pa.Table:
    _freeze_imports()
    pieces = [rows]
    if target.shard:
        by, *sorting = [*target.shard, target.schema.names[0]]
        order = [(name, "ascending") for name in sorting]
        pieces = [rows.filter(pc.equal(rows[by], value)).sort_by(order) for value in pc.unique(rows[by])]
    parts = [part for piece in pieces if piece.num_rows for part in split_rows(piece, target.schema)]
    saved = [_save_one(part, target, prefix) for prefix, part in parts]
    return pa.Table.from_pylist(saved, schema=_MANIFEST)


@cache
def _freeze_imports() -> None:
    """Leave what this worker of Ray has imported out of garbage collections.

    Each would visit all of it, and rows as Python objects cause many: a third of the CPU time of a block of small rows.
    """
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE:
        gc.collect()
        gc.freeze()


def _save_one(rows: pa.Table, target: Target, prefix: str) -> Row:
    shard = write_shard(target.folder, rows, target.schema, prefix=prefix)
    counts = pc.value_counts(rows[target.label].combine_chunks()).to_pylist() if target.label else []
    tokens = pc.sum(rows["tokens_out"]).as_py() if "tokens_out" in rows.column_names else 0
    by_label = {str(each["values"]): each["counts"] for each in counts} or {"": rows.num_rows}
    metrics.count(target.folder.path.rstrip("/").rpartition("/")[2], by_label, tokens or 0)
    return {
        **asdict(shard),
        "nan": json.dumps(shard.nan),
        "digest": hex_digest(rows_digest(rows.select(target.schema.names))),
        "tokens": tokens or 0,
        "labels": [{"label": count["values"], "rows": count["counts"]} for count in counts],
        "summary": json.dumps(target.summarize(rows) if target.summarize else None),
    }
