"""Run a function over whole datasets in one task. On Ray its results stay in the object store, and no row reaches the driver.

The task holds all its rows in memory, so each caller documents how many bytes a row takes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from engine.distributed.executor import Executor
from engine.distributed.in_process import threads
from engine.distributed.rows import Ref, Rows

GatherInput = tuple[Rows | None, pa.Schema]
"""Rows and the columns of them that the function reads; None stands for no rows."""


def run(op: Callable[..., Any], *inputs: GatherInput, returns: int = 1, **options: Any) -> Any:
    """Return a reference to `op(*tables, **options)`, or `returns` references, computed in one task on one CPU.

    References among the values of `options` are replaced by their values.
    """
    blocks = [rows.to_arrow_refs() if rows else [] for rows, _ in inputs]
    shapes = [(schema, len(refs)) for (_, schema), refs in zip(inputs, blocks, strict=True)]
    arguments = (op, shapes, list(options), *options.values(), *(ref for refs in blocks for ref in refs))
    if found := threads():
        refs = found.start(_run, *arguments, returns=returns)
        return refs if returns > 1 else refs[0]
    import ray

    task: Any = ray.remote(num_cpus=1, num_returns=returns)(_run)
    return task.remote(*arguments)


def merge(op: Callable[..., pa.Table], refs: Sequence[Ref], executor: Executor) -> Ref:
    """Return a reference to `op` of the tables of all `refs`, which is that of its results for groups of them.

    A task reads the square root of their number. A block of Ray's without rows, which may lack the columns, is left out.
    """
    size = max(1, math.isqrt(len(refs)))
    parts = [executor.start(_of_rows, op, *refs[start : start + size])[0] for start in range(0, len(refs), size)]
    [whole] = executor.start(_of_rows, op, *parts)
    return whole


def _of_rows(op: Callable[..., pa.Table], *tables: pa.Table) -> pa.Table:
    return op([table for table in tables if table.num_rows])


def _run(op: Callable[..., Any], shapes: Sequence[tuple[pa.Schema, int]], names: Sequence[str], *values: Any) -> Any:
    """Call `op`; `values`: those of the options `names`, then the blocks. References are resolved at the top level only."""
    options, blocks = dict(zip(names, values, strict=False)), list(values[len(names) :])
    tables = []
    for schema, count in shapes:
        mine, blocks = blocks[:count], blocks[count:]
        pieces = (block.select(schema.names) for block in mine if block.num_rows)
        tables.append(pa.concat_tables([schema.empty_table(), *pieces]))
    return op(*tables, **options)
