"""Pairs of near unit vectors, without comparing all with all.

Spherical k-means cuts the vectors into clusters, as in Abbas et al., "SemDeDup: data-efficient learning at web-scale through
semantic deduplication" (2023), section 3, where vectors are compared within their cluster only. Here a vector also probes the next
nearest clusters, as a query does in an inverted file (Jegou et al., "Product quantization for nearest neighbor search", 2011,
section IV), so that near pairs are found across the borders of clusters.

Each cluster can be searched on its own, so clusters can lie on many machines. A vector travels once to each task whose clusters it
probes.
`leaders` decides which rows of the joined pairs are duplicates.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from engine.dedup.components import component_labels

EXACT_UP_TO = 10_000  # rows: up to so many are one cluster, and every pair is compared
ROWS_PER_CLUSTER = 1_000  # a row is compared with about NPROBE times as many
MAX_CLUSTERS = 8_192  # finding the nearest centre of a row costs as many comparisons
SAMPLE_PER_CLUSTER = 64  # rows per centre for k-means: its centres only partition the space, they need not be exact
NPROBE = 4  # clusters that a vector is compared in, its own included
TILE = 2_048  # rows and columns of the block of similarities that is in memory: 16 MB


class Edges(NamedTuple):
    """Pairs of rows by number, each with the cosine of its vectors (float32)."""

    left: np.ndarray
    right: np.ndarray
    similarity: np.ndarray


NO_EDGES = Edges(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


class ClusterPart(NamedTuple):
    """Vectors on their way to the clusters of one task, each once, and which of the task's clusters each one probes."""

    cluster: np.ndarray  # int32, one for each probe
    is_probe: np.ndarray  # bool: not the vector's own cluster
    row: np.ndarray  # int32: number of the vector
    node: np.ndarray  # uint64, one for each vector
    vectors: np.ndarray  # float32, (rows, dimensions)


def num_clusters(rows: int) -> int:
    """Return the number of clusters for `rows` vectors."""
    return 1 if rows <= EXACT_UP_TO else min(rows // ROWS_PER_CLUSTER, MAX_CLUSTERS)


def fit(sample: np.ndarray, *, clusters: int, seed: int = 0) -> np.ndarray:
    """Return at most `clusters` centres, unit vectors (clusters, dimensions), of a `sample` (rows, dimensions) of the vectors.

    FAISS runs on one thread: the same sample in the same order gives the same centres.
    """
    import faiss

    faiss.omp_set_num_threads(1)
    count = min(clusters, len(sample))
    kmeans = faiss.Kmeans(
        sample.shape[1], count, niter=10, seed=seed, spherical=True, min_points_per_centroid=1,
        max_points_per_centroid=SAMPLE_PER_CLUSTER,
    )  # fmt: skip
    kmeans.train(sample)
    assert kmeans.centroids is not None
    return kmeans.centroids


def nearest_clusters(vectors: np.ndarray, centres: np.ndarray, *, nprobe: int = NPROBE) -> np.ndarray:
    """Return the numbers of the `nprobe` nearest centres of each vector, nearest first: (rows, at most nprobe) int32."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(centres.shape[1])
    index.add(np.ascontiguousarray(centres))
    return index.search(np.ascontiguousarray(vectors), min(nprobe, len(centres)))[1].astype(np.int32)


def near_pairs(vectors: np.ndarray, *, threshold: float, clusters: int | None = None, nprobe: int = NPROBE) -> Edges:
    """Return pairs left < right of unit `vectors` that have a cosine of at least `threshold`; a pair may occur twice.

    The pairs have the same connected components as all such pairs that meet in a cluster; pairs of rows that others join already
    are left out, so there are fewer pairs than rows. Memory: the vectors, and about 3 * `nprobe` numbers a row.
    """
    count = clusters or num_clusters(len(vectors))
    if count == 1 or not len(vectors):
        return _spanning_pairs(vectors, len(vectors), threshold=threshold)
    nearest = nearest_clusters(vectors, fit(vectors, clusters=count), nprobe=nprobe)
    rows = np.repeat(np.arange(len(vectors)), nearest.shape[1])
    is_probe = np.tile(np.arange(nearest.shape[1]) > 0, len(vectors))
    return _pairs_in_clusters(nearest.ravel(), is_probe, rows, vectors, threshold=threshold)


def draw_sample(nodes: np.ndarray, vectors: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return about `share` of the rows, chosen by their `nodes`, which are 64-bit hashes: the same rows for any cut into blocks."""
    is_drawn = nodes >> np.uint64(11) < np.uint64(min(share, 1.0) * 2**53)
    return nodes[is_drawn], vectors[is_drawn]


def fit_samples(clusters: int, *samples: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the centres of the blocks' `samples`; a node that several blocks have counts once."""
    nodes, vectors = (np.concatenate(column) for column in zip(*samples, strict=True))
    _, first = np.unique(nodes, return_index=True)
    return fit(vectors[first], clusters=clusters)


class Probes(NamedTuple):
    """Which clusters the distinct nodes of a block are compared in."""

    node: np.ndarray  # uint64
    first: np.ndarray  # int32: the first row of each node
    clusters: np.ndarray  # int32 (nodes, at most NPROBE), nearest first


def probes(centres: np.ndarray, nodes: np.ndarray, vectors: np.ndarray) -> Probes:
    """Return the clusters that the vectors of a block probe."""
    node, first = np.unique(nodes, return_index=True)
    return Probes(node, first.astype(np.int32), nearest_clusters(vectors[first], centres))


def partition(parts: int, wanted: Sequence[int], found: Probes, vectors: np.ndarray) -> list[ClusterPart]:
    """Return, for each of the `wanted` ones of `parts` tasks, the vectors of a block that are compared in its clusters."""
    part, is_probe = found.clusters % parts, np.broadcast_to(np.arange(found.clusters.shape[1]) > 0, found.clusters.shape)
    pieces = []
    for number in wanted:
        at = np.nonzero(part == number)
        rows, row = np.unique(at[0], return_inverse=True)
        pieces.append(
            ClusterPart(found.clusters[at], is_probe[at], row.astype(np.int32), found.node[rows], vectors[found.first[rows]])
        )
    return pieces


def join(threshold: float, *pieces: ClusterPart) -> np.ndarray:
    """Return the edges (2, edges) of uint64, a < b, between the nodes of the `pieces` that one task got of all blocks."""
    starts = np.cumsum([0, *(len(piece.node) for piece in pieces)])
    row = np.concatenate([piece.row + start for piece, start in zip(pieces, starts, strict=False)])
    cluster, is_probe, _, node, vectors = (np.concatenate(column) for column in zip(*pieces, strict=True))
    order = np.argsort(node[row], kind="stable")
    pairs = _pairs_in_clusters(cluster[order], is_probe[order], row[order], vectors, threshold=threshold)
    edges = np.sort(np.stack([node[pairs.left], node[pairs.right]]), axis=0)
    return np.unique(edges[:, edges[0] != edges[1]], axis=1)  # a text that several blocks have is near to itself


def _pairs_in_clusters(
    cluster: np.ndarray, is_probe: np.ndarray, row: np.ndarray, vectors: np.ndarray, *, threshold: float
) -> Edges:
    """Return the pairs of each cluster; row `row[i]` of `vectors` is compared in `cluster[i]`, of which all rows are given."""
    order = np.lexsort((np.arange(len(row)), is_probe, cluster))
    starts = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    pieces = [NO_EDGES]
    for start, end in zip(starts, [*starts[1:], len(order)] if len(starts) else [], strict=True):
        members = row[order[start:end]]
        residents = int(np.count_nonzero(~is_probe[order[start:end]]))
        pairs = _spanning_pairs(vectors[members], residents, threshold=threshold)
        ends = np.sort(np.stack([members[pairs.left], members[pairs.right]]), axis=0)
        pieces.append(Edges(ends[0], ends[1], pairs.similarity))
    return _concatenated(pieces)


def _concatenated(pieces: Sequence[Edges]) -> Edges:
    return Edges(*(np.concatenate(column) for column in zip(*pieces, strict=True)))


def _spanning_pairs(vectors: np.ndarray, residents: int, *, threshold: float) -> Edges:
    """Return pairs of the first `residents` rows, with each other and with the rest, that join what all near pairs join.

    The product is computed tile by tile; of a tile a spanning forest of the most similar pairs is kept. Rows that earlier tiles
    joined are not compared again, so a cluster of nothing but copies costs few products, and never a list of its square.
    """
    component = np.arange(len(vectors))
    forests: list[Edges] = []
    for rows, columns in _tiles(residents, len(vectors)):
        here, there = component[rows], component[columns]
        if here.min() == here.max() == there.min() == there.max():
            continue
        cosine = vectors[rows] @ vectors[columns].T
        left, right = np.nonzero((cosine >= threshold) & (here[:, None] != there[None, :]))
        if len(left):
            edges = Edges(left + rows.start, right + columns.start, cosine[left, right])
            forests.append(_spanning_forest(edges, component))
            component = components_of(forests, len(vectors))
    return _concatenated([NO_EDGES, *forests])


def _tiles(residents: int, total: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, residents, TILE):
        for left in range(top, total, TILE):
            yield slice(top, min(top + TILE, residents)), slice(left, min(left + TILE, total))


def _spanning_forest(edges: Edges, component: np.ndarray) -> Edges:
    """Return the most similar of `edges` that join the same rows as all of them, between rows of several `component`s."""
    from scipy.sparse import coo_matrix  # half a second that few processes need
    from scipy.sparse.csgraph import minimum_spanning_tree

    left, right = component[edges.left], component[edges.right]
    low, high = np.minimum(left, right), np.maximum(left, right)
    best = np.lexsort((edges.right, edges.left, -edges.similarity, high, low))  # one edge for each pair of components
    best = best[np.flatnonzero(np.diff(low[best], prepend=-1) | np.diff(high[best], prepend=-1))]
    graph = coo_matrix((3 - edges.similarity[best], (low[best], high[best])), shape=(len(component), len(component)))
    tree = minimum_spanning_tree(graph).tocoo()
    kept = best[np.isin(low[best] * len(component) + high[best], tree.row.astype(np.int64) * len(component) + tree.col)]
    return Edges(*(part[kept] for part in edges))


def components_of(edges: Sequence[Edges], rows: int) -> np.ndarray:
    """Return the number of the connected component of each of `rows` rows, (rows,) int64."""
    return component_labels(np.concatenate([np.stack(pairs[:2]) for pairs in edges], axis=1), rows)
