"""How many references to objects the driver of a deduplication holds: its flow, started on an executor that only counts."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from engine.contract.prompts import Copies
from engine.dedup import flow
from engine.dedup.minhash import bands
from engine.dedup.plan import GROUP_BYTES, MINIMUM_BYTES, MOST_GROUPS, MOST_PARTS, NODES_PER_TASK, plan

# Rows up to which the flow is started; beyond, it is started at doubled sizes, with a straight line on a log-log scale between.
COUNTED = 60_000_000
KEY_BYTES = 16  # of a band key with its text key
INLINED, INLINED_OF_TASK = 100 << 10, 10 << 20  # bytes: Ray's max_direct_call_object_size and task_rpc_inlined_bytes_limit


class CountingExecutor:
    """Starts nothing. The sizes of what tasks return are not known: no edge is found, so there is one round."""

    def __init__(self) -> None:
        self.references = 0

    def start(self, op: Callable[..., Any], *args: Any, returns: int = 1) -> list[int]:
        """Count the references that the task would return."""
        self.references += returns
        return [0] * returns

    def fetch(self, refs: Any) -> Any:
        """Return zero for each reference."""
        return [0] * len(refs) if isinstance(refs, list) else 0


def references(rows: float, copies: Copies | None, *, rows_per_block: int) -> float:
    """Return the references that a search among `rows` texts in blocks of `rows_per_block` makes; all live until it ends.

    `copies` is None for equal ids, whose keys are of one part (`engine.prompts.resolve_flow.find_copies`).
    """
    if rows <= COUNTED:
        return float(_count(int(rows), copies, rows_per_block))
    sizes, counts = _curve(copies.model_dump_json() if copies else None, rows_per_block)
    if rows <= sizes[-1]:
        return float(np.exp(np.interp(np.log(rows), np.log(sizes), np.log(counts))))
    slope = (counts[-1] - counts[-2]) / (sizes[-1] - sizes[-2])
    return counts[-1] + slope * (rows - sizes[-1])


def pieces(rows: float, copies: Copies | None, *, rows_per_block: int) -> float:
    """Return the references to the duplicates of each block, which are read after the search."""
    return float(_blocks(int(rows), rows_per_block) * plan(int(rows), copies, []).node_parts)


def inlined_bytes(rows: float, copies: Copies, *, rows_per_block: int) -> float:
    """Return the bytes of band keys that lie in the driver's own memory: Ray returns objects below INLINED to the caller with the
    task's reply, up to INLINED_OF_TASK for a task. The more rows, the more and smaller are the pieces of a block."""
    blocks = _blocks(int(rows), rows_per_block)
    of_block = max(rows_per_block, rows / blocks) * bands(copies).bands * KEY_BYTES
    if of_block / plan(int(rows), copies, []).key_parts >= INLINED:
        return 0.0
    return float(blocks * min(INLINED_OF_TASK, of_block))


def group_bytes(rows: float, copies: Copies | None, *, rows_per_block: int) -> float:
    """Return what the task that signs a group of blocks holds beyond one that signs a block; 0 while each block is a group."""
    bytes_of_row = GROUP_BYTES + MINIMUM_BYTES * (copies.num_perm if copies else 0)
    return bytes_of_row * max(0.0, rows / MOST_GROUPS - rows_per_block)


@cache
def _curve(section: str | None, rows_per_block: int) -> tuple[list[int], list[int]]:
    """Return sizes from COUNTED on, and the counts there; `section` is the JSON of `copies`.

    At the last two sizes groups and parts of nodes are as many as they can be, so that only the parts of keys grow. These are as
    many as the rows of the last size need, so a large `rows_per_block` takes long: see `scale_files.rows_per_block` for its bound.
    """
    copies = Copies.model_validate_json(section) if section else None
    sizes = [COUNTED, 2 * COUNTED]
    while sizes[-2] < max(MOST_GROUPS * rows_per_block, MOST_PARTS * NODES_PER_TASK):
        sizes.append(2 * sizes[-1])
    return sizes, [_count(size, copies, rows_per_block) for size in sizes]


def _count(rows: int, copies: Copies | None, rows_per_block: int) -> int:
    executor = CountingExecutor()
    found = plan(rows, copies, [])
    found = found if copies else found._replace(key_parts=1)
    blocks = [None] * _blocks(rows, rows_per_block)
    signatures = flow.compute_signatures(blocks, found, executor, compute=_nothing)
    flow.by_block(flow.find_duplicates(signatures, found, executor), len(blocks), executor)
    return executor.references


def _blocks(rows: int, rows_per_block: int) -> int:
    """Return the blocks, or groups of them, that enter the search: of prompts see `resolve_flow`, of answers `curation/flow.py`."""
    return max(1, min(MOST_GROUPS, rows // rows_per_block))


def _nothing(*args: Any) -> Any:
    raise AssertionError("nothing is computed where references are counted")
