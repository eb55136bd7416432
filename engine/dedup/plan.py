"""How duplicates are searched, and references to what is computed: shared by `flow` and `in_memory`."""

from itertools import pairwise
from typing import NamedTuple

from engine.contract.prompts import Copies
from engine.dedup.minhash import bands
from engine.dedup.representatives import Order
from engine.dedup.signature import Matcher, SemanticMatcher
from engine.distributed.rows import Ref

KEYS_PER_TASK = 8 << 20  # 16 bytes each while they travel, about 50 while they are sorted
NODES_PER_TASK = 2 << 20  # of which those with an edge bring their signatures
PARTS_AT_ONCE = 16  # of embeddings; their vectors, with those that probe their clusters, are some 350 MB a part with 384 dimensions
VECTORS_PER_TASK = 1 << 16  # of embeddings, which all travel, each to at most semantic.NPROBE tasks; beyond MOST_PARTS tasks, more
MOST_PARTS = 256  # of nodes: each part of each block is a reference, and of each task for keys; beyond 537 million texts they grow
MOST_GROUPS = 512  # blocks that enter a search of a large corpus, see `groups`
GROUP_BYTES = 450  # of a row in the task that signs a group, beside its minima: its argument, its copy and what it returns
MINIMUM_BYTES = 13.7  # of each minimum there, and of its part of the band keys: with 128 permutations a row takes 2,200 in all
WORTH_A_TASK = 50_000  # documents: fewer are done before another task has begun
PIECE_BYTES = 200 << 10  # of what a task returns for each of many others: Ray keeps what is below 100 KB in the driver's own memory
LABEL_BYTES = 120  # of a row of embeddings with the order, its id and its component, on its way to the other rows of that
EDGES_IN_ONE_TASK = 50 << 20  # of connected components: about 100 bytes each


class Plan(NamedTuple):
    """How duplicates are searched. The numbers change what a task holds, never the result."""

    matcher: Matcher  # None: only equal texts
    order: Order  # of the documents of a component, the one to keep first; no two are equal
    key_parts: int
    node_parts: int
    edges_in_one_task: int
    label_tasks: int = MOST_GROUPS
    """Most tasks that send rows to their components, each a piece of PIECE_BYTES or more to each part of them."""
    parts_at_once: int = PARTS_AT_ONCE
    """Parts of embeddings to which vectors travel at the same time: all that travels waits in the object stores."""


class Signatures(NamedTuple):
    """References to the signatures, block by block."""

    rows: list[Ref]  # `id` and the columns of the order
    text_keys: list[Ref]  # of every row
    signatures: list[Ref]
    nodes: list[Ref]  # text keys of the rows that have an n-gram
    band_keys: list[list[Ref]]  # block -> task


class DuplicateRefs(NamedTuple):
    """References to the result, one of each kind for each part of the components."""

    positions: list[Ref]  # representatives.Duplicates.positions
    duplicates: list[Ref]  # representatives.Duplicates.table, in the order of the parts


def plan(rows: int, matcher: Matcher, order: Order, *, parts: int | None = None, at_once: int = 1) -> Plan:
    """Return the plan for about `rows` documents: at least as many tasks as run `at_once`, if they are worth it; or `parts`.

    There are at most MOST_PARTS node_parts: tasks hold more beyond MOST_PARTS * VECTORS_PER_TASK (16.8 million) embeddings, or
    MOST_PARTS * NODES_PER_TASK (537 million) texts.
    """
    count = bands(matcher).bands if isinstance(matcher, Copies) else 1
    fewest = min(at_once, 1 + rows // WORTH_A_TASK)
    key_parts = min(parts, count) if parts else max(min(fewest, count), 1 + rows * count // KEYS_PER_TASK)
    key_parts = key_parts if key_parts <= count else -(-key_parts // count) * count
    if isinstance(matcher, SemanticMatcher):
        node_parts = parts or min(MOST_PARTS, max(fewest, 1 + rows // VECTORS_PER_TASK))
        label_tasks = pieces(rows * LABEL_BYTES, node_parts, most=MOST_GROUPS)
        return Plan(matcher, order, key_parts, node_parts, EDGES_IN_ONE_TASK, label_tasks)
    node_parts = min(MOST_PARTS, max(fewest, 1 + rows // NODES_PER_TASK))
    return Plan(matcher, order, key_parts, parts or node_parts, EDGES_IN_ONE_TASK)


def groups(blocks: int, *, most: int | None = None) -> list[slice]:
    """Return at most `most` (MOST_GROUPS) ranges of neighbouring blocks that enter a search as one.

    What travels is a piece for each block and each part, and the parts grow with rows: with as many blocks as rows allow, the
    pieces would grow with the square of rows; with a fixed number of groups they grow with rows.
    """
    count = min(blocks, most or MOST_GROUPS)
    cuts = [blocks * number // count for number in range(count + 1)] if count else []
    return [slice(start, stop) for start, stop in pairwise(cuts)]


def pieces(total: int, tables: int, *, most: int) -> int:
    """Return into how many pieces each of `tables` tables is cut, `total` bytes in all: at most `most`, of PIECE_BYTES or more."""
    return max(1, min(most, total // (max(1, tables) * PIECE_BYTES)))
