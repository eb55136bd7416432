"""Duplicates in a corpus of any size: few, large, pure functions on an executor, so that a task that dies is simply run again.

    compute      the texts of a block become hashes, signatures and band keys
    bucket       all keys of some bands, or of a range of one band, meet in one task and become candidate edges
    fetch        a block returns the signatures of the texts that have an edge, and no others
    verify       an edge is kept if its signatures are similar enough; what a star did not match is compared again
    near         for embeddings instead: vectors travel to their clusters, where near pairs become edges
    join         edges become components: in one task while they fit, in rounds of large-star and small-star beyond
    resolve      documents meet by component; see `representatives` for which ones stay

Where all signatures are in this process, `in_memory` does all but `compute` and `near`.

The driver holds references, some hundred for each million documents, and counts. The result does not depend on the order of the
documents, on their blocks, or on the task that ran twice.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from engine.contract.prompts import Copies
from engine.dedup import components, edges, in_memory, representatives, semantic
from engine.dedup.components import part_of
from engine.dedup.entry_types import ROUNDS
from engine.dedup.minhash import NOTHING, band_keys, bands
from engine.dedup.plan import DuplicateRefs, Plan, Signatures, groups, plan
from engine.dedup.representatives import Order
from engine.dedup.signature import Matcher, SemanticMatcher, SignedBlock
from engine.distributed.executor import Executor, returned
from engine.distributed.rows import Ref

__all__ = [
    "DuplicateRefs", "Plan", "Signatures", "by_block", "compute_signatures", "find_duplicates", "find_edges", "join_edges", "plan",
]  # fmt: skip


def compute_signatures(
    blocks: Sequence[Any],
    plan: Plan,
    executor: Executor,
    *,
    compute: Callable[..., SignedBlock],
    args: Sequence[Sequence[Any]] = (),
) -> Signatures:
    """Compute the signatures of `blocks`, each by `compute(block, *more)` in one task; texts are read only here.

    `args` has `more` of each block, if there is any. Blocks and what is in `more` may be references.
    """
    parts = list(zip(blocks, args or [()] * len(blocks), strict=True))
    if in_memory.serves(executor, plan.matcher):
        return in_memory.compute_signatures(parts, executor, compute)
    returns, copies = 4 + plan.key_parts, plan.matcher if isinstance(plan.matcher, Copies) else None
    signed = [executor.start(_compute, compute, block, copies, plan.key_parts, *more, returns=returns) for block, more in parts]
    columns = [[block[number] for block in signed] for number in range(4)]
    return Signatures(*columns, band_keys=[block[4:] for block in signed])


def find_duplicates(signatures: Signatures, plan: Plan, executor: Executor) -> DuplicateRefs:
    """Find the duplicates among the documents of `signatures`."""
    if in_memory.serves(executor, plan.matcher):
        return in_memory.find_duplicates(signatures, plan, executor)
    roots = join_edges(find_edges(signatures, plan, executor), plan, executor) if plan.matcher else []
    parts, columns = plan.node_parts, (signatures.rows, signatures.text_keys, signatures.signatures)
    labelled = []
    for group in groups(len(signatures.rows), most=plan.label_tasks):
        blocks = [block for column in columns for block in column[group]]
        labelled.append(executor.start(_label, range(group.start, group.stop), parts, *blocks, *roots, returns=parts))
    pieces = ([of_group[part] for of_group in labelled] for part in range(parts))
    resolved = [executor.start(_resolve, plan.order, plan.matcher, *mine, returns=2) for mine in pieces]
    return DuplicateRefs([positions for positions, _ in resolved], [table for _, table in resolved])


def by_block(found: DuplicateRefs, blocks: int, executor: Executor) -> list[list[Ref]]:
    """Return, for each of the `blocks` of the signatures, references to the pieces of the table of its duplicates."""
    split = [executor.start(_split_by_block, blocks, table, returns=blocks) for table in found.duplicates]
    return [[of_part[number] for of_part in split] for number in range(blocks)]


def find_edges(signatures: Signatures, plan: Plan, executor: Executor) -> list[Ref]:
    """Return references to the edges (2, edges) between similar texts; an edge may occur in several.

    Raises:
        ValueError: `signatures` were computed in memory, where no edges are made.
    """
    if isinstance(plan.matcher, SemanticMatcher):
        return _near_edges(signatures, plan, plan.matcher.threshold, executor)
    assert plan.matcher is not None, "equal texts are one node and have no edges"
    if len(signatures.band_keys) != len(signatures.text_keys):
        raise ValueError(
            f"found band keys of {len(signatures.band_keys)} blocks, expected {len(signatures.text_keys)}: signatures computed in "
            "threads have none. Call find_duplicates, or compute them on another executor."
        )
    return _minhash_edges(signatures, plan, plan.matcher.threshold, executor)


def _minhash_edges(signatures: Signatures, plan: Plan, threshold: float, executor: Executor) -> list[Ref]:
    parts, blocks = plan.node_parts, len(signatures.nodes)
    keys = ([block[part] for block in signatures.band_keys] for part in range(plan.key_parts))
    buckets = [executor.start(_bucket, parts, blocks, *signatures.nodes, *mine, returns=2 + parts) for mine in keys]
    kept: list[Ref] = []
    for _ in range(ROUNDS):
        candidates = [executor.start(_unite, *(task[2 + part] for task in buckets), returns=2) for part in range(parts)]
        nodes = [of_part for _, of_part in candidates]
        fetched = [
            executor.start(_fetch, text_keys, of_block, *nodes, returns=parts)
            for text_keys, of_block in zip(signatures.text_keys, signatures.signatures, strict=True)
        ]
        verified = [
            executor.start(_verify, threshold, candidates[part][0], *(block[part] for block in fetched))[0] for part in range(parts)
        ]
        kept += verified
        if not sum(executor.fetch([num_open for num_open, *_ in buckets])):
            break
        buckets = [executor.start(_bucket_again, parts, stars, *verified, returns=2 + parts) for _, stars, *_ in buckets]
    return kept


def _near_edges(signatures: Signatures, plan: Plan, threshold: float, executor: Executor) -> list[Ref]:
    parts, blocks = plan.node_parts, list(zip(signatures.text_keys, signatures.signatures, strict=True))
    rows = sum(executor.fetch([executor.start(_length, text_keys)[0] for text_keys, _ in blocks]))
    if not rows:
        return []
    clusters = semantic.num_clusters(rows)
    share = clusters * semantic.SAMPLE_PER_CLUSTER / rows
    samples = [executor.start(semantic.draw_sample, *block, share)[0] for block in blocks]
    [centres] = executor.start(semantic.fit_samples, clusters, *samples)
    probed = [executor.start(semantic.probes, centres, *block)[0] for block in blocks]
    found: list[Ref] = []
    for start in range(0, parts, plan.parts_at_once):
        executor.fetch([executor.start(_length, edges)[0] for edges in found[-plan.parts_at_once :]])  # whose vectors may go
        wanted = range(start, min(parts, start + plan.parts_at_once))
        blocks = zip(probed, signatures.signatures, strict=True)
        placed = [executor.start(_partition_vectors, parts, wanted, *block, returns=len(wanted)) for block in blocks]
        found += [executor.start(semantic.join, threshold, *mine)[0] for mine in zip(*placed, strict=True)]
        del placed
    return found


def join_edges(links: list[Ref], plan: Plan, executor: Executor) -> list[Ref]:
    """Return references to the roots of all nodes that have an edge, in parts; `links` are those of `find_edges`."""
    if not links:
        return []
    if sum(executor.fetch([executor.start(_length, part)[0] for part in links])) <= plan.edges_in_one_task:
        return executor.start(components.roots, *links)
    parts = range(plan.node_parts)
    owned = [executor.start(_partition_edges, len(parts), part, returns=len(parts)) for part in links]
    before, after = None, ()
    while before != after:
        before, digests = after, []
        for operation, following in (("large_star", "small_star"), ("small_star", "large_star")):
            of_part = [[piece[part] for piece in owned] for part in parts]
            done = [executor.start(_star, operation, following, len(parts), *mine, returns=1 + len(parts)) for mine in of_part]
            owned, digests = [pieces for _, *pieces in done], [digest for digest, *_ in done]
        after = tuple(map(sum, zip(*executor.fetch(digests), strict=True)))
    return [executor.start(components.final_roots, *(piece[part] for piece in owned))[0] for part in parts]


def _compute(compute: Callable[..., SignedBlock], block: Any, copies: Copies | None, parts: int, *more: Any) -> tuple[Any, ...]:
    rows, text_keys, signatures = compute(block, *more)
    if not copies:
        return (rows, text_keys, signatures, text_keys[:0], *[None] * parts)
    # Texts without an n-gram have all-sentinel signatures and match nothing; checking four minima suffices.
    has_ngram = (signatures[:, :4] != NOTHING).any(axis=1)
    nodes, of_nodes = (text_keys, signatures) if has_ngram.all() else (text_keys[has_ngram], signatures[has_ngram])
    return (rows, text_keys, signatures, nodes, *edges.partition(band_keys(of_nodes, bands(copies)), nodes, parts))


def _bucket(parts: int, blocks: int, *args: Any) -> tuple[Any, ...]:
    return _candidates(edges.join(args[:blocks], args[blocks:]), parts)


def _bucket_again(parts: int, stars: edges.Buckets, *verified: np.ndarray) -> tuple[Any, ...]:
    return _candidates([edges.unmatched(stars, np.concatenate(verified, axis=1))], parts)


def _candidates(buckets: Sequence[edges.Buckets], parts: int) -> tuple[Any, ...]:
    """Return the number of nodes that are in stars, the stars, and the candidate edges of each part."""
    of_bucket = [edges.large_buckets(bucket) for bucket in buckets]
    stars = edges.Buckets(*(np.concatenate(column) for column in zip(*of_bucket, strict=True)))
    every = edges.distinct(np.concatenate([edges.candidates(bucket) for bucket in buckets], axis=1))
    part = part_of(every[0], parts)  # of the smaller node
    return (len(stars.node), stars, *(every[:, part == number] for number in range(parts)))


def _unite(*candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    every = edges.distinct(np.concatenate(candidates, axis=1))
    return every, np.unique(every)


def _fetch(text_keys: np.ndarray, signatures: np.ndarray, *needed: np.ndarray) -> Any:
    node, row = np.unique(text_keys, return_index=True)
    masks = (np.isin(node, nodes, assume_unique=True) for nodes in needed)
    return returned([(node[is_needed], signatures[row[is_needed]]) for is_needed in masks])


def _verify(threshold: float, candidates: np.ndarray, *fetched: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    nodes, signatures = (np.concatenate(column) for column in zip(*fetched, strict=True))
    return edges.verify(candidates, nodes, signatures, threshold=threshold)


def _partition_vectors(parts: int, wanted: range, found: semantic.Probes, vectors: np.ndarray) -> Any:
    return returned(semantic.partition(parts, wanted, found, vectors))


def _length(array: np.ndarray) -> int:
    """Return the number of rows of a vector, or of edges (2, edges)."""
    return array.shape[-1]


def _partition_edges(parts: int, block: np.ndarray) -> Any:
    return returned(components.partition(block, parts, "large_star"))


def _star(operation: components.Operation, following: components.Operation, parts: int, *owned: np.ndarray) -> tuple[Any, ...]:
    replaced = components.apply_star(operation, *owned)
    return (components.digest(replaced), *components.partition(replaced, parts, following))


def _label(numbers: range, parts: int, *args: Any) -> Any:
    """Return the rows of the blocks `numbers` in each part of the components, and those of their signatures that are needed.

    `args` are the blocks' rows, then their text keys, then their signatures, then the roots.
    """
    count, pieces = len(numbers), [[] for _ in range(parts)]
    rows, text_keys, signatures, roots = (args[start:stop] for start, stop in pairwise([0, count, 2 * count, 3 * count, len(args)]))
    for number, table, keys, of_block in zip(numbers, rows, text_keys, signatures, strict=True):
        labelled = representatives.label_components(table, keys, roots, number=number)
        part, has_signature = part_of(labelled["root"].to_numpy(), parts), labelled["has_signature"].to_numpy()
        for at in range(parts):
            pieces[at].append((labelled.filter(pa.array(part == at)), of_block[(part == at) & has_signature]))
    return returned([(pa.concat_tables(tables), np.concatenate(few)) for tables, few in (zip(*of, strict=True) for of in pieces)])


def _split_by_block(blocks: int, duplicates: pa.Table) -> Any:
    block = (duplicates["position"].to_numpy() >> np.uint64(32)).astype(np.int64)
    order = np.argsort(block, kind="stable")
    starts = np.searchsorted(block[order], np.arange(blocks + 1)).tolist()
    return returned([duplicates.take(pa.array(order[start:stop])) for start, stop in pairwise(starts)])


def _resolve(order: Order, matcher: Matcher, *labelled: tuple[pa.Table, np.ndarray]) -> tuple[np.ndarray, pa.Table]:
    tables, signatures = zip(*labelled, strict=True)
    return representatives.resolve(pa.concat_tables(tables), np.concatenate(signatures), order, matcher)
