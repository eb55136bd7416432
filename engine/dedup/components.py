"""Connected components of edges between 64-bit nodes: in one process, or in rounds of tasks that each see a part of the edges.

Both give every node the smallest node that it is joined to. One process holds about 100 bytes an edge. The rounds are the
alternating large-star and small-star of Kiveris et al., "Connected Components in MapReduce and Beyond" (SoCC 2014), section 3.1:
an edge travels to the task that owns its node, where the node's neighbours are joined to the smallest of them. At the end every
edge leads to the smallest node of its component. The proof bounds the rounds by log^2 of the nodes; copies take a handful.
"""

from typing import Literal, NamedTuple

import numpy as np

Step = Literal["large", "small"]


class Roots(NamedTuple):
    """Nodes that have an edge, sorted, and the smallest node of the component of each."""

    node: np.ndarray
    root: np.ndarray


def roots(edges: np.ndarray) -> Roots:
    """Return the roots of all nodes of `edges`, (2, edges) of uint64."""
    from scipy.sparse import coo_matrix  # half a second that only one process needs
    from scipy.sparse.csgraph import connected_components

    nodes, number = np.unique(edges, return_inverse=True)
    left, right = number.reshape(edges.shape)
    graph = coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(len(nodes), len(nodes)))
    _, label = connected_components(graph, directed=False)
    _, first = np.unique(label, return_index=True)  # nodes are sorted: the first of a label is its smallest
    return Roots(nodes, nodes[first[label]])


def part_of(nodes: np.ndarray, parts: int) -> np.ndarray:
    """Return which of `parts` equal ranges of 64-bit numbers each of `nodes` is in."""
    return ((nodes >> np.uint64(32)) * np.uint64(parts)) >> np.uint64(32)


def deal(edges: np.ndarray, parts: int, step: Step) -> list[np.ndarray]:
    """Return (owner, other), (2, n) for each part: a large step's edges go to both of their nodes, a small one's to the larger."""
    owned = edges[::-1] if step == "small" else np.concatenate([edges, edges[::-1]], axis=1)
    place = part_of(owned[0], parts)
    return [owned[:, place == part] for part in range(parts)]


def star(owned: np.ndarray, step: Step) -> np.ndarray:
    """Return the edges (2, n), a < b, each once, that take the place of those `owned`, all there are of their owners."""
    owner, other, low = _lowest(owned)
    if step == "large":
        above = other > owner
        found = np.stack([low[above], other[above]])
    else:
        lower = other != low
        found = np.concatenate([np.stack([low[lower], other[lower]]), np.stack([low, owner])], axis=1)
    return np.unique(found, axis=1)


def settled(owned: np.ndarray) -> Roots:
    """Return the roots of the owners, once a large and a small step have changed nothing; `owned` as dealt for a large step."""
    owner, _, low = _lowest(owned)
    node, first = np.unique(owner, return_index=True)
    return Roots(node, low[first])


def digest(edges: np.ndarray) -> tuple[int, int]:
    """Return what tells one set of edges from another: their number and a sum over them."""
    mixed = (edges[0] ^ (edges[1] * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xD6E8FEB86659FD93)
    return edges.shape[1], int((mixed ^ (mixed >> np.uint64(29))).sum(dtype=np.uint64))


def _lowest(owned: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (owner, other) sorted by owner, and the smallest of each owner and its neighbours."""
    owner, other = owned[:, np.argsort(owned[0])]
    _, first, sizes = np.unique(owner, return_index=True, return_counts=True)
    low = np.minimum.reduceat(other, first) if len(first) else other
    return owner, other, np.minimum(np.repeat(low, sizes), owner)
