"""Run a function over whole datasets in one task. Its results stay in the object store; no row reaches the driver.

The task holds all its rows in memory, so each caller documents how many bytes a row takes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import ray
from ray.data import Dataset

GatherInput = tuple[Dataset | None, pa.Schema]
"""A dataset and the columns of it that the function reads; None stands for no rows."""


def run(op: Callable[..., Any], *inputs: GatherInput, returns: int = 1, **options: Any) -> Any:
    """Return a reference to `op(*tables, **options)`, or `returns` references, computed in one task on one CPU.

    Object references among the values of `options` are replaced by their values.
    """
    blocks = [rows.to_arrow_refs() if rows else [] for rows, _ in inputs]
    shapes = [(schema, len(refs)) for (_, schema), refs in zip(inputs, blocks, strict=True)]
    task: Any = ray.remote(num_cpus=1, num_returns=returns)(_run)
    return task.remote(op, shapes, list(options), *options.values(), *(ref for refs in blocks for ref in refs))


def _run(op: Callable[..., Any], shapes: Sequence[tuple[pa.Schema, int]], names: Sequence[str], *values: Any) -> Any:
    """Call `op`; `values`: those of the options `names`, then the blocks. Ray resolves references at the top level only."""
    options, blocks = dict(zip(names, values, strict=False)), list(values[len(names) :])
    tables = []
    for schema, count in shapes:
        mine, blocks = blocks[:count], blocks[count:]
        pieces = (block.select(schema.names) for block in mine if block.num_rows)
        tables.append(pa.concat_tables([schema.empty_table(), *pieces]))
    return op(*tables, **options)
