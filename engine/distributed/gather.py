"""One task that must see everything: whole datasets in, values in the object store out. Nothing comes to the driver.

Whoever uses it says how many bytes a row takes there.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import ray
from ray.data import Dataset

Whole = tuple[Dataset | None, pa.Schema]
"""A dataset and the columns of it that are needed; None stands for no rows."""


def run(op: Callable[..., Any], *wholes: Whole, returns: int = 1, **given: Any) -> Any:
    """Return a reference to `op(*tables, **given)`, or `returns` of them, computed in one task on one CPU.

    References among the values of `given` are replaced by what they refer to.
    """
    blocks = [rows.to_arrow_refs() if rows else [] for rows, _ in wholes]
    shapes = [(schema, len(refs)) for (_, schema), refs in zip(wholes, blocks, strict=True)]
    task: Any = ray.remote(num_cpus=1, num_returns=returns)(_run)
    return task.remote(op, shapes, list(given), *given.values(), *(ref for refs in blocks for ref in refs))


def _run(op: Callable[..., Any], shapes: Sequence[tuple[pa.Schema, int]], names: Sequence[str], *values: Any) -> Any:
    given, blocks = dict(zip(names, values, strict=False)), list(values[len(names) :])
    tables = []
    for schema, count in shapes:
        mine, blocks = blocks[:count], blocks[count:]
        tables.append(pa.concat_tables([schema.empty_table(), *(one.select(schema.names) for one in mine if one.num_rows)]))
    return op(*tables, **given)
