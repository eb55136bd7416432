"""`engine.distributed.stream` in this process: a dataset is a list of blocks, and each function runs over them at once."""

from types import GeneratorType

import pyarrow as pa
import pyarrow.compute as pc

from engine.distributed import stream
from engine.storage.shards import table_of


def in_process(monkeypatch):
    """Let `stream.read`, `of`, `apply` and `write` work without Ray."""
    for function in (read, of, apply, write):
        monkeypatch.setattr(stream, function.__name__, function)


def read(artifact, name, pool, *, rows, columns=None):
    table = artifact.read(name, stream_schema(name), columns)
    return [table.slice(start, rows) for start in range(0, table.num_rows, rows)]


def stream_schema(name):
    from engine.rows import TABLES

    return TABLES[name]


def of(tables):
    return list(tables)


def apply(blocks, op, pool, *, batch=None, variables=None, **arguments):
    call = op(**arguments) if isinstance(op, type) else lambda block: op(block, **arguments)
    done = []
    for block in blocks:
        result = call(block)
        done += list(result) if isinstance(result, GeneratorType) else [result]
    return done


def write(blocks, target, pool, *, progress=None):
    shards, labels, summaries = [], {}, []
    for block in (block for block in blocks if block.num_rows):
        shards.append(stream.write_shard(target.folder, block, target.schema))
        summaries.append(target.summarize(block) if target.summarize else None)
        for count in pc.value_counts(block[target.label].combine_chunks()).to_pylist() if target.label else []:
            labels[count["values"]] = labels.get(count["values"], 0) + count["counts"]
    tables = [block for block in blocks if isinstance(block, pa.Table) and "tokens_out" in block.column_names]
    tokens = sum(pc.sum(block["tokens_out"]).as_py() or 0 for block in tables)
    return stream.Written(table_of(shards, "0"), labels, tokens, summaries)
