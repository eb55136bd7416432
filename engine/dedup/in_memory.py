"""Duplicates of a corpus whose signatures are all in this process, in its threads: the result of `flow`'s tasks, without copies.

    compute      as in `flow`; the signatures stay where they are, and everything else refers to them by row
    equal        rows with equal text keys become one tree of a forest
    join         each thread takes some bands: it sorts one band's keys at a time and joins verified rows in a forest of its own
    settle       the forests become one
    resolve      as in `flow`, of the rows that share their component with another

Beside the signatures a row takes some 100 bytes while it is joined, and 12 to 20 for each thread; one that shares its component
with another some 350 while it is resolved. Rows are numbered through all blocks.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import pyarrow as pa

from engine.contract.prompts import Copies
from engine.dedup import native
from engine.dedup.components import part_of
from engine.dedup.minhash import bands
from engine.dedup.plan import WORTH_A_TASK, DuplicateRefs, Plan, Signatures
from engine.dedup.representatives import Duplicates, choose
from engine.dedup.signature import Matcher, SemanticMatcher, SignedBlock
from engine.distributed.executor import Executor
from engine.distributed.thread_pool import ThreadPool


class Forest(NamedTuple):
    """Rows and their trees."""

    keys: np.ndarray  # (rows,) uint64: the text keys
    parent: np.ndarray  # (rows,) uint32
    flag: np.ndarray  # (rows,) uint8: whether it is compared: the first row of a text; once settled, whether its tree has several


def serves(executor: Executor, matcher: Matcher) -> TypeGuard[ThreadPool]:
    """Return whether this module finds the duplicates."""
    return isinstance(executor, ThreadPool) and not isinstance(matcher, SemanticMatcher)


def compute_signatures(
    parts: Sequence[tuple[Any, Sequence[Any]]], threads: ThreadPool, compute: Callable[..., SignedBlock]
) -> Signatures:
    """See `flow.compute_signatures`; `parts` are the blocks, each with its further arguments."""
    signed = [threads.start(_compute, compute, block, *more, returns=3) for block, more in parts]
    rows, text_keys, signatures = ([block[number] for block in signed] for number in range(3))
    return Signatures(rows, text_keys, signatures, nodes=[], band_keys=[])


def find_duplicates(signatures: Signatures, plan: Plan, threads: ThreadPool) -> DuplicateRefs:
    """See `flow.find_duplicates`."""
    [forest] = threads.start(_join_equal, *signatures.text_keys)
    if isinstance(plan.matcher, Copies):
        [forest] = threads.start(_pass_over_empty, forest, *signatures.signatures)
        count = bands(plan.matcher).bands
        tasks = min(threads.size, count, 1 + len(threads.fetch(forest).keys) // WORTH_A_TASK)
        mine = [range(first, count, tasks) for first in range(tasks)]
        joined = [threads.start(_join_bands, plan.matcher, of_task, forest, *signatures.signatures)[0] for of_task in mine]
        [forest] = threads.start(_settle, forest, *joined)
    else:
        [forest] = threads.start(_settle, forest)
    of_block = [ref for block in zip(signatures.rows, signatures.signatures, strict=True) for ref in block]
    parts = range(plan.node_parts)
    resolved = [threads.start(_resolve, plan, part, forest, *of_block, returns=2) for part in parts]
    return DuplicateRefs([positions for positions, _ in resolved], [table for _, table in resolved])


def _compute(compute: Callable[..., SignedBlock], block: Any, *more: Any) -> SignedBlock:
    rows, text_keys, signatures = compute(block, *more)
    return SignedBlock(rows, text_keys, np.ascontiguousarray(signatures))


def _mask(rows: int) -> int:
    """Return the mask of the lower bits of a number to be sorted, which hold a row."""
    return (1 << rows.bit_length()) - 1


def _join_equal(*text_keys: np.ndarray) -> Forest:
    keys = np.concatenate(text_keys)
    mask = _mask(len(keys))
    order = (keys & np.uint64(~mask % 2**64)) | np.arange(len(keys), dtype=np.uint64)
    order.sort()
    forest = Forest(keys, np.empty(len(keys), np.uint32), np.empty(len(keys), np.uint8))
    native.call("join_equal", order, mask, *forest)
    return forest


def _pass_over_empty(texts: Forest, *signatures: np.ndarray) -> Forest:
    native.call("pass_over_empty", *_Blocks.of(signatures), texts.flag)
    return texts


def _join_bands(copies: Copies, numbers: Sequence[int], texts: Forest, *signatures: np.ndarray) -> np.ndarray:
    """Return the parents of all rows after the rows that match in the bands `numbers` were joined."""
    cut, blocks, mask = bands(copies), _Blocks.of(signatures), _mask(len(texts.keys))
    needed = int(np.searchsorted(np.arange(blocks.permutations + 1) / blocks.permutations, copies.threshold))
    parent, order, count = texts.parent.copy(), np.empty(len(texts.keys), np.uint64), np.zeros(1, np.int64)
    for number in numbers:
        native.call("band", *blocks, number, cut.rows, mask, texts.flag, order, count)
        keyed = order[: int(count[0])]
        keyed.sort()
        native.call("join_buckets", *blocks, keyed, mask, needed, texts.keys, parent)
    return parent


def _settle(texts: Forest, *parents: np.ndarray) -> Forest:
    parent, *others = parents or [texts.parent]
    for other in others:
        native.call("join_forests", texts.keys, parent, other)
    is_shared = np.empty(len(parent), np.uint8)
    native.call("settle", parent, is_shared)
    return Forest(texts.keys, parent, is_shared)


def _resolve(plan: Plan, part: int, forest: Forest, *blocks: Any) -> Duplicates:
    tables, signatures = blocks[::2], _Blocks.of(blocks[1::2])
    pieces, first = [], 0
    for number, table in enumerate(tables):
        mine = slice(first, first + len(table))
        at = np.flatnonzero(forest.flag[mine])
        root = forest.keys[forest.parent[mine][at]]
        if plan.node_parts > 1:
            is_mine = part_of(root, plan.node_parts) == part
            at, root = at[is_mine], root[is_mine]
        position = (np.uint64(number) << np.uint64(32)) + at.astype(np.uint64)
        columns = {"text": forest.keys[first + at], "root": root, "position": position, "at": first + at}
        piece = table.take(pa.array(at))
        for name, column in columns.items():
            piece = piece.append_column(name, pa.array(column))
        pieces.append(piece)
        first += len(table)
    return choose(pa.concat_tables(pieces), plan.order, plan.matcher, np.empty((0, 0)), partial(_estimate, signatures))


class _Blocks(NamedTuple):
    """Where the signatures of all rows are: arguments of the kernel. The blocks must stay in memory while it runs."""

    addresses: np.ndarray  # (blocks,) int64
    starts: np.ndarray  # (blocks + 1,) int64: the first row of each, and all rows
    permutations: int

    @classmethod
    def of(cls, signatures: Sequence[np.ndarray]) -> "_Blocks":
        """Return where `signatures` are.

        Raises:
            TypeError: a block is not a contiguous array (rows, permutations) of uint32, with the permutations of the first.
        """
        for number, block in enumerate(signatures):  # machine code reads them unchecked
            found = f"{block.dtype} {block.shape}"
            if block.dtype != np.uint32 or block.ndim != 2 or block.shape[1] != signatures[0].shape[1]:
                expected = f"uint32 (rows, {signatures[0].shape[-1]})"
                raise TypeError(f"signatures of block {number}: found {found}, expected {expected} as in the first block.")
            if not block.flags.c_contiguous:
                raise TypeError(f"signatures of block {number}: found {found} that is not contiguous.")
        starts = np.cumsum([0, *map(len, signatures)])
        return cls(np.array([block.ctypes.data for block in signatures], np.int64), starts, signatures[0].shape[1])


def _estimate(blocks: _Blocks, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    counts = np.empty(len(left), np.int64)
    native.call("equal_minima", *blocks, left, right, counts)
    return counts / blocks.permutations
