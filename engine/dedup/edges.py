"""Locality-sensitive hashing: buckets of equal band keys become candidate edges, and candidate edges are verified.

A node is a text: the 64-bit hash of its normalized form. So equal texts are one node before anything is compared, and the centre of
a bucket depends neither on the order nor on the files of the input.

Guarantee: every pair of a bucket of up to ALL_PAIRS_UP_TO texts is compared. A larger bucket (boilerplate) would cost its square:
all its nodes are compared with the smallest one, those that do not match it with the smallest among them, and so on, ROUNDS times.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.dedup.components import part_of
from engine.dedup.entry_types import ALL_PAIRS_UP_TO
from engine.dedup.minhash import estimate

PAIRS_AT_ONCE = 1 << 14  # bounds the memory of a comparison: 2 x 16,384 signatures


class Buckets(NamedTuple):
    """Buckets of at least two nodes, sorted by key and node, no node twice in one: uint64 arrays of equal length."""

    key: np.ndarray
    node: np.ndarray


class KeyPart(NamedTuple):
    """The keys of a block that one task gets, and their nodes."""

    keys: np.ndarray  # (bands, nodes) uint64
    nodes: np.ndarray | None  # (nodes,) uint64; None: all nodes of the block, which are not sent again to every task


def partition(keys: np.ndarray, nodes: np.ndarray, parts: int) -> list[KeyPart]:
    """Return the part of `keys` (nodes, bands) for each of `parts` tasks: some whole bands, or a range of one band.

    If there are more tasks than bands, their number must be a multiple of the bands.
    """
    bands = keys.shape[1]
    if parts <= bands:
        cuts = np.linspace(0, bands, parts + 1).astype(int).tolist()
        return [KeyPart(np.ascontiguousarray(keys[:, start:stop].T), None) for start, stop in itertools.pairwise(cuts)]
    pieces = []
    for band in keys.T:
        part = part_of(band, parts // bands)
        pieces += [KeyPart(band[part == number][None], nodes[part == number]) for number in range(parts // bands)]
    return pieces


def join(nodes: Sequence[np.ndarray], pieces: Sequence[KeyPart]) -> list[Buckets]:
    """Return the buckets of each band of the `pieces` that one task got, one a block; `nodes` are all nodes of each block."""
    node = np.concatenate([every if piece.nodes is None else piece.nodes for every, piece in zip(nodes, pieces, strict=True)])
    first = np.argsort(node)
    first = first[np.diff(node[first], prepend=~node[first[:1]]) != 0]  # a text of several blocks has the same keys in each
    node = node[first]
    return [buckets(np.concatenate([piece.keys[band] for piece in pieces])[first], node) for band in range(len(pieces[0].keys))]


def buckets(keys: np.ndarray, nodes: np.ndarray) -> Buckets:
    """Return the buckets of `nodes`, sorted and distinct, by `keys`, both (n,) of uint64.

    The position of a node replaces the lowest bits of its key, so that plain numbers are sorted: three times as fast as sorting
    pairs. At least 40 bits of the key are left; a collision is rare and costs one comparison.
    """
    position = np.arange(len(nodes), dtype=np.uint64)
    low = np.uint64((1 << len(nodes).bit_length()) - 1)
    both = np.sort((keys & ~low) | position)
    key, place = _shared(Buckets(both & ~low, both & low))
    return Buckets(key, nodes[place])


def candidates(grouped: Buckets) -> np.ndarray:
    """Return the edges (2, edges), a < b, to verify: all pairs of a small bucket, a star of a large one; some repeat."""
    key, node = grouped
    starts, sizes = _extent(key)
    is_large = sizes > ALL_PAIRS_UP_TO
    pieces = []
    for step in range(1, ALL_PAIRS_UP_TO):
        first = np.flatnonzero((key[step:] == key[:-step]) & ~is_large[:-step])
        if not len(first):
            break
        pieces.append(np.stack([node[first], node[first + step]]))
    rays = np.flatnonzero(is_large & (starts != np.arange(len(starts))))
    pieces.append(np.stack([node[starts[rays]], node[rays]]))
    return np.concatenate(pieces, axis=1)


def large_buckets(grouped: Buckets) -> Buckets:
    """Return the buckets for which `candidates` returns stars."""
    is_large = _extent(grouped.key)[1] > ALL_PAIRS_UP_TO
    return Buckets(grouped.key[is_large], grouped.node[is_large])


def unmatched(stars: Buckets, verified: np.ndarray) -> Buckets:
    """Return the next round's buckets: of each star the nodes that did not match its smallest node.

    `verified` are the edges (2, edges) that did match.
    """
    starts, _ = _extent(stars.key)
    rays = np.flatnonzero(starts != np.arange(len(starts)))
    failed = rays[~_among(np.stack([stars.node[starts[rays]], stars.node[rays]]), verified)]
    return _shared(Buckets(stars.key[failed], stars.node[failed]))


def distinct(edges: np.ndarray) -> np.ndarray:
    """Return `edges` (2, edges) sorted, each once."""
    edges = edges[:, np.lexsort((edges[1], edges[0]))]
    return edges[:, (np.diff(edges, axis=1, prepend=~edges[:, :1]) != 0).any(axis=0)]


def verify(edges: np.ndarray, nodes: np.ndarray, signatures: np.ndarray, *, threshold: float) -> np.ndarray:
    """Return those of the distinct `edges` whose MinHash signatures estimate a Jaccard similarity of at least `threshold`.

    `nodes` holds every node of an edge, in any order and possibly repeated; `signatures` (nodes, num_perm) are theirs.
    """
    order = np.argsort(nodes)
    left, right = (order[np.searchsorted(nodes, end, sorter=order)] for end in edges)
    matches = np.empty(edges.shape[1], bool)
    for start in range(0, len(matches), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        matches[part] = estimate(signatures[left[part]], signatures[right[part]]) >= threshold
    return edges[:, matches]


def repeats(values: np.ndarray) -> np.ndarray:
    """Return a mask of those of the sorted `values` that occur more than once."""
    is_repeated = np.zeros(len(values), bool)
    is_repeated[1:] = values[1:] == values[:-1]
    is_repeated[:-1] |= is_repeated[1:]
    return is_repeated


def _shared(grouped: Buckets) -> Buckets:
    """Return the rows whose key occurs more than once; `grouped` is sorted by key."""
    is_shared = repeats(grouped.key)
    return Buckets(grouped.key[is_shared], grouped.node[is_shared])


def _extent(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row the first row and the number of rows of its bucket; `key` is sorted."""
    first = np.flatnonzero(np.diff(key, prepend=~key[:1]))
    sizes = np.diff(np.append(first, len(key)))
    return np.repeat(first, sizes), np.repeat(sizes, sizes)


def _among(edges: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which of `edges` are among `others`."""
    others = others[:, np.isin(others[0], edges[0])]
    nodes = np.unique(np.concatenate([others, edges], axis=1))
    code, codes = (np.searchsorted(nodes, both[0]) * len(nodes) + np.searchsorted(nodes, both[1]) for both in (edges, others))
    return np.isin(code, codes)
