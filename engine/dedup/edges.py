"""Buckets to edges: which texts are to be compared, and which of them are alike enough.

A node is a text: the 64-bit hash of its normal form. So equal texts are one node before anything is compared, and what a bucket's
centre is depends neither on the order nor on the files of the input.

What is guaranteed: of a bucket of up to ALL_PAIRS_UP_TO texts every pair is compared. A larger one (boilerplate) would cost its
square: all are compared with its smallest node; those that are not like it with the smallest among them; and so on, ROUNDS times.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.dedup.components import part_of
from engine.dedup.minhash import estimate

ALL_PAIRS_UP_TO = 16
ROUNDS = 4
PAIRS_AT_ONCE = 1 << 14  # bounds the memory of a comparison: 2 x 16,384 signatures


class Buckets(NamedTuple):
    """Buckets of at least two nodes, sorted by key and node, no node twice in one: uint64 arrays of equal length."""

    key: np.ndarray
    node: np.ndarray


class Dealt(NamedTuple):
    """What one task gets of a block: keys, and whose they are."""

    keys: np.ndarray  # (bands, nodes) uint64
    nodes: np.ndarray | None  # (nodes,) uint64; None: all of the block, which need not travel again for every task


def deal(keys: np.ndarray, nodes: np.ndarray, parts: int) -> list[Dealt]:
    """Return, for each of `parts` tasks, what it gets of the `keys` (nodes, bands): some bands whole, or a range of one.

    More tasks than bands must be a multiple of them.
    """
    bands = keys.shape[1]
    if parts <= bands:
        cuts = np.linspace(0, bands, parts + 1).astype(int).tolist()
        return [Dealt(np.ascontiguousarray(keys[:, start:stop].T), None) for start, stop in itertools.pairwise(cuts)]
    dealt = []
    for band in keys.T:
        place = part_of(band, parts // bands)
        dealt += [Dealt(band[place == part][None], nodes[place == part]) for part in range(parts // bands)]
    return dealt


def meet(nodes: Sequence[np.ndarray], dealt: Sequence[Dealt]) -> list[Buckets]:
    """Return the buckets of each band of what one task got of all blocks; `nodes` of each block stand in where it has none."""
    whose = np.concatenate([every if piece.nodes is None else piece.nodes for every, piece in zip(nodes, dealt, strict=True)])
    first = np.argsort(whose)
    first = first[np.diff(whose[first], prepend=~whose[first[:1]]) != 0]  # a text of several blocks has the same keys in each
    whose = whose[first]
    return [buckets(np.concatenate([piece.keys[band] for piece in dealt])[first], whose) for band in range(len(dealt[0].keys))]


def buckets(keys: np.ndarray, nodes: np.ndarray) -> Buckets:
    """Return the buckets of `nodes`, sorted and distinct, by `keys`, both (n,) of uint64.

    The place of a node takes the lowest bits of its key, so that numbers are sorted and nothing is carried along: three times as
    fast. With 40 and more bits left, that other keys meet is rare, and costs one comparison.
    """
    place = np.arange(len(nodes), dtype=np.uint64)
    low = np.uint64((1 << len(nodes).bit_length()) - 1)
    both = np.sort((keys & ~low) | place)
    found = _shared(Buckets(both & ~low, both & low))
    return Buckets(found.key, nodes[found.node])


def candidates(found: Buckets) -> np.ndarray:
    """Return the edges (2, edges), a < b, to be checked: all pairs of a small bucket, a star of a large one; some repeat."""
    starts, sizes = _extent(found)
    is_large = sizes > ALL_PAIRS_UP_TO
    pieces = []
    for step in range(1, ALL_PAIRS_UP_TO):
        first = np.flatnonzero((found.key[step:] == found.key[:-step]) & ~is_large[:-step])
        if not len(first):
            break
        pieces.append(np.stack([found.node[first], found.node[first + step]]))
    rays = np.flatnonzero(is_large & (starts != np.arange(len(starts))))
    pieces.append(np.stack([found.node[starts[rays]], found.node[rays]]))
    return np.concatenate(pieces, axis=1)


def large(found: Buckets) -> Buckets:
    """Return the buckets of which `candidates` makes stars."""
    _, sizes = _extent(found)
    is_large = sizes > ALL_PAIRS_UP_TO
    return Buckets(found.key[is_large], found.node[is_large])


def unlike(stars: Buckets, passed: np.ndarray) -> Buckets:
    """Return, of buckets that were compared with their smallest node, the nodes that did not pass: the next round's buckets.

    `passed` holds the edges (2, edges) that count.
    """
    starts, _ = _extent(stars)
    rays = np.flatnonzero(starts != np.arange(len(starts)))
    failed = rays[~_among(np.stack([stars.node[starts[rays]], stars.node[rays]]), passed)]
    return _shared(Buckets(stars.key[failed], stars.node[failed]))


def distinct(edges: np.ndarray) -> np.ndarray:
    """Return `edges` (2, edges) sorted, each once."""
    order = np.lexsort((edges[1], edges[0]))
    edges = edges[:, order]
    new = np.ones(edges.shape[1], bool)
    new[1:] = (edges[:, 1:] != edges[:, :-1]).any(axis=0)
    return edges[:, new]


def check(edges: np.ndarray, nodes: np.ndarray, minima: np.ndarray, *, threshold: float) -> np.ndarray:
    """Return those of the distinct `edges` whose signatures estimate at least `threshold`.

    `nodes` holds every node of an edge, in any order, also more than once; `minima` its signature, (nodes, num_perm).
    """
    order = np.argsort(nodes)
    left, right = (order[np.searchsorted(nodes, end, sorter=order)] for end in edges)
    counts = np.empty(edges.shape[1], bool)
    for start in range(0, len(counts), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        counts[part] = estimate(minima[left[part]], minima[right[part]]) >= threshold
    return edges[:, counts]


def _shared(found: Buckets) -> Buckets:
    """Leave out the nodes that are alone under their key; `found` is sorted by key."""
    twin = found.key[1:] == found.key[:-1]
    keep = np.zeros(len(found.key), bool)
    keep[1:] |= twin
    keep[:-1] |= twin
    return Buckets(found.key[keep], found.node[keep])


def _extent(found: Buckets) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row where its bucket starts, and how many rows that has."""
    count = len(found.key)
    new = np.ones(count, bool)
    new[1:] = found.key[1:] != found.key[:-1]
    first = np.flatnonzero(new)
    sizes = np.diff(np.append(first, count))
    return np.repeat(first, sizes), np.repeat(sizes, sizes)


def _among(edges: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return which of `edges` are in `known`."""
    known = known[:, np.isin(known[0], edges[0])]
    nodes = np.unique(np.concatenate([known, edges], axis=1))
    code, codes = (np.searchsorted(nodes, both[0]) * len(nodes) + np.searchsorted(nodes, both[1]) for both in (edges, known))
    return np.isin(code, codes)
