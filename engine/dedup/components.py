"""Connected components of edges between 64-bit nodes: in one process, or in rounds of tasks that each see a part of the edges.

Both return for every node the smallest node of its component. One process holds about 100 bytes an edge. The rounds alternate the
large-star and small-star operations of Kiveris et al., "Connected Components in MapReduce and Beyond" (SoCC 2014), section 3.1: an
edge travels to the task that owns its node, where the node's neighbours are connected to the smallest of them. At the end every
edge leads to the smallest node of its component. The proof bounds the rounds by log^2 of the nodes; duplicates take a handful.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

FEW_EDGES = 200_000  # up to here components are found before scipy would be imported
Operation = Literal["large_star", "small_star"]


class Roots(NamedTuple):
    """Nodes that have an edge, sorted, and the smallest node of the component of each: uint64."""

    node: np.ndarray
    root: np.ndarray


def component_labels(edges: np.ndarray, nodes: int) -> np.ndarray:
    """Return the number of the component of each of `nodes` nodes, (nodes,) int64; `edges` are (2, edges) numbers of nodes."""
    if edges.shape[1] <= FEW_EDGES:
        return np.unique(_hooked(edges, nodes), return_inverse=True)[1]
    from scipy.sparse import coo_matrix  # half a second of import
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(edges.shape[1], np.int8), tuple(edges)), shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _hooked(edges: np.ndarray, nodes: int) -> np.ndarray:
    """Return the smallest node of the component of each node, by hooking and pointer jumping.

    Shiloach and Vishkin, "An O(log n) parallel connectivity algorithm" (1982): of each edge between two trees the larger root is
    hooked onto the smaller one, then every node points to the root of its tree.
    """
    label = np.arange(nodes)
    while True:
        low, high = np.sort(label[edges], axis=0)
        if np.array_equal(low, high):
            return label
        np.minimum.at(label, high, low)
        while not np.array_equal(above := label[label], label):
            label = above


def roots(*edges: np.ndarray) -> Roots:
    """Return the roots of all nodes of `edges`, each (2, edges) of uint64."""
    every = np.concatenate(edges, axis=1)
    nodes, number = np.unique(every, return_inverse=True)
    label = component_labels(number.reshape(every.shape), len(nodes))
    _, first = np.unique(label, return_index=True)  # nodes are sorted: the first of a label is its smallest
    return Roots(nodes, nodes[first[label]])


def part_of(nodes: np.ndarray, parts: int) -> np.ndarray:
    """Return the number of the range, of `parts` equal ranges of 64-bit numbers, that each of `nodes` is in."""
    return ((nodes >> np.uint64(32)) * np.uint64(parts)) >> np.uint64(32)


def partition(edges: np.ndarray, parts: int, operation: Operation) -> list[np.ndarray]:
    """Return (owner, other), (2, n), of each part. For a large-star both nodes own an edge, for a small-star the larger node."""
    owned = edges[::-1] if operation == "small_star" else np.concatenate([edges, edges[::-1]], axis=1)
    part = part_of(owned[0], parts)
    return [owned[:, part == number] for number in range(parts)]


def apply_star(operation: Operation, *owned: np.ndarray) -> np.ndarray:
    """Return the edges (2, n), a < b, each once, that replace the `owned` ones, which are all edges of their owners."""
    owner, other, low = _lowest(owned)
    if operation == "large_star":
        above = other > owner
        replaced = np.stack([low[above], other[above]])
    else:
        lower = other != low
        replaced = np.concatenate([np.stack([low[lower], other[lower]]), np.stack([low, owner])], axis=1)
    return np.unique(replaced, axis=1)


def final_roots(*owned: np.ndarray) -> Roots:
    """Return the roots of the owners, once a large-star and a small-star changed nothing; `owned` as for a large-star."""
    owner, _, low = _lowest(owned)
    node, first = np.unique(owner, return_index=True)
    return Roots(node, low[first])


def digest(edges: np.ndarray) -> tuple[int, int]:
    """Return a fingerprint of a set of edges: their number and a sum of hashes, in any order of the edges."""
    mixed = (edges[0] ^ (edges[1] * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xD6E8FEB86659FD93)
    return edges.shape[1], int((mixed ^ (mixed >> np.uint64(29))).sum(dtype=np.uint64))


def _lowest(pieces: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (owner, other) sorted by owner, and the smallest of each owner and its neighbours."""
    owned = np.concatenate(pieces, axis=1)
    owner, other = owned[:, np.argsort(owned[0])]
    _, first, sizes = np.unique(owner, return_index=True, return_counts=True)
    low = np.minimum.reduceat(other, first) if len(first) else other
    return owner, other, np.minimum(np.repeat(low, sizes), owner)
