"""Near copies by meaning: pairs of unit vectors that are near each other, without comparing all with all.

Spherical k-means cuts the vectors into clusters, as in Abbas et al., "SemDeDup" (2023), who compare within a cluster only. Here a
vector, resident in the cluster of its nearest centre, also visits those of the next few, as queries do in an inverted file (Jegou
et al., "Product quantization for nearest neighbor search", 2011, section IV): a border between clusters parts no pair of near ones.

Only clusters must be whole, so that they can lie on many machines. A vector travels once for each cluster that it is compared in.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.dedup.vectors import column, matrix

ROWS_PER_CLUSTER = 1_000  # a row is compared with about REACH times so many
MOST_CLUSTERS = 8_192  # to find the nearest centre of a row costs as much as so many comparisons
SAMPLE_PER_CLUSTER = 64  # rows that k-means sees: its centres only cut the space, they need not be exact
REACH = 4
TILE = 2_048  # rows by rows of similarities that are held at once: 16 MB


class Edges(NamedTuple):
    """Pairs of rows by number, each with the cosine of its vectors (float32)."""

    left: np.ndarray
    right: np.ndarray
    similarity: np.ndarray


def clusters_for(rows: int) -> int:
    """Return into how many clusters so many rows are cut."""
    return max(1, min(rows // ROWS_PER_CLUSTER, MOST_CLUSTERS))


def fit(sample: np.ndarray, *, clusters: int, seed: int = 0) -> np.ndarray:
    """Return at most `clusters` centres, unit vectors (clusters, dimensions), of a `sample` (rows, dimensions) of the vectors.

    FAISS on one thread: the same sample in the same order gives the same centres.
    """
    import faiss

    faiss.omp_set_num_threads(1)
    count = min(clusters, len(sample))
    means = faiss.Kmeans(
        sample.shape[1], count, niter=10, seed=seed, spherical=True, min_points_per_centroid=1,
        max_points_per_centroid=SAMPLE_PER_CLUSTER,
    )  # fmt: skip
    means.train(sample)
    assert means.centroids is not None
    return means.centroids


def place(ids: pa.Array | pa.ChunkedArray, vectors: np.ndarray, centres: np.ndarray, *, reach: int = REACH) -> pa.Table:
    """Return (cluster, visits, id, embedding): each row once in its own cluster, and once in each that it visits."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(centres.shape[1])
    index.add(np.ascontiguousarray(centres))
    nearest = index.search(np.ascontiguousarray(vectors), min(reach, len(centres)))[1]
    rows = np.repeat(np.arange(len(vectors)), nearest.shape[1])
    visits = np.tile(np.arange(nearest.shape[1]) > 0, len(vectors))
    return pa.table(
        {
            "cluster": pa.array(nearest.ravel().astype(np.int32)),
            "visits": pa.array(visits),
            "id": ids.take(pa.array(rows)),
            "embedding": column(vectors[rows]),
        }
    )


def near(rows: pa.Table, *, threshold: float) -> pa.Table:
    """Return pairs (a, b, similarity) of what `place` returns, every cluster whole: a < b by id; a pair may come from two clusters.

    Their connected components, over all clusters, are those of all pairs with a cosine of at least `threshold` that meet in a
    cluster. There are fewer pairs than rows: of those that join the same rows, only some are returned.
    """
    rows = rows.sort_by([("cluster", "ascending"), ("visits", "ascending"), ("id", "ascending")])
    ids, vectors = rows["id"].combine_chunks(), matrix(rows["embedding"])
    visits = rows["visits"].to_numpy()
    starts = np.flatnonzero(np.diff(rows["cluster"].to_numpy(), prepend=-1))
    pieces = []
    for start, end in zip(starts, np.append(starts[1:], len(rows)), strict=True):
        residents = int(np.count_nonzero(~visits[start:end]))
        found = joining(vectors[start:end], residents, threshold=threshold)
        one, other = ids.take(pa.array(found.left + start)), ids.take(pa.array(found.right + start))
        pieces.append(_ordered(one, other, found.similarity))
    return pa.concat_tables([_ordered(ids[:0], ids[:0], np.empty(0, np.float32)), *pieces])


def near_pairs(
    ids: pa.Array, vectors: np.ndarray, *, threshold: float, clusters: int | None = None, reach: int = REACH
) -> pa.Table:
    """Return pairs (a, b, similarity) of vectors that fit into this process: 4 bytes times dimensions times `reach` a row."""
    if not len(ids):
        return _ordered(ids, ids, np.empty(0, np.float32))
    order = pc.sort_indices(ids)
    ids, vectors = ids.take(order), vectors[order.to_numpy()]
    centres = fit(vectors, clusters=clusters or clusters_for(len(ids)))
    return near(place(ids, vectors, centres, reach=reach), threshold=threshold)


def draw(nodes: np.ndarray, vectors: np.ndarray, *, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return about `share` of the rows, whose `nodes` are 64-bit hashes: the same ones however they are cut into blocks."""
    taken = nodes >> np.uint64(11) < np.uint64(min(share, 1.0) * 2**53)
    return nodes[taken], vectors[taken]


def centres_of(drawn: Sequence[tuple[np.ndarray, np.ndarray]], *, clusters: int) -> np.ndarray:
    """Return the centres of all that was drawn, which counts once where several blocks have it."""
    nodes, vectors = (np.concatenate(column) for column in zip(*drawn, strict=True))
    _, first = np.unique(nodes, return_index=True)
    return fit(vectors[first], clusters=clusters)


def deal(nodes: np.ndarray, vectors: np.ndarray, centres: np.ndarray, parts: int) -> list[pa.Table]:
    """Return for each of `parts` tasks what `place` puts into its clusters."""
    nodes, first = np.unique(nodes, return_index=True)
    placed = place(pa.array(nodes), vectors[first], centres)
    part = placed["cluster"].to_numpy() % parts
    return [placed.filter(pa.array(part == number)) for number in range(parts)]


def meet(pieces: Sequence[pa.Table], *, threshold: float) -> np.ndarray:
    """Return the edges (2, edges) of uint64 between the nodes of what one task was dealt of all blocks."""
    found = near(pa.concat_tables(pieces), threshold=threshold)
    edges = np.stack([found["a"].to_numpy(), found["b"].to_numpy()])
    return np.unique(edges[:, edges[0] != edges[1]], axis=1)  # a text of several blocks is near to itself


def joining(vectors: np.ndarray, residents: int, *, threshold: float) -> Edges:
    """Return pairs of the first `residents` rows, with each other and the rest, that join what all of at least `threshold` join.

    Tile by tile; within a tile a spanning forest of the most similar pairs. What earlier tiles have joined is not looked at again,
    so that a cluster of nothing but copies costs few products, and never a list of its square.
    """
    joined = np.arange(len(vectors))
    found = []
    for rows, columns in _tiles(residents, len(vectors)):
        here, there = joined[rows], joined[columns]
        if here.min() == here.max() == there.min() == there.max():
            continue
        cosine = vectors[rows] @ vectors[columns].T
        left, right = np.nonzero((cosine >= threshold) & (here[:, None] != there[None, :]))
        if len(left):
            edges = Edges(left + rows.start, right + columns.start, cosine[left, right])
            found.append(_forest(edges, joined))
            joined = _components(found, len(vectors))
    if not found:
        return Edges(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    return Edges(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _tiles(residents: int, total: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, residents, TILE):
        for left in range(top, total, TILE):
            yield slice(top, min(top + TILE, residents)), slice(left, min(left + TILE, total))


def _forest(edges: Edges, joined: np.ndarray) -> Edges:
    """The most similar of `edges` that suffice to join what all of them join, between rows that are `joined` already."""
    from scipy.sparse import coo_matrix  # half a second that few processes need
    from scipy.sparse.csgraph import minimum_spanning_tree

    left, right = joined[edges.left], joined[edges.right]
    low, high = np.minimum(left, right), np.maximum(left, right)
    best = np.lexsort((edges.right, edges.left, -edges.similarity, high, low))  # one edge for each pair of components
    best = best[np.flatnonzero(np.diff(low[best], prepend=-1) | np.diff(high[best], prepend=-1))]
    graph = coo_matrix((3 - edges.similarity[best], (low[best], high[best])), shape=(len(joined), len(joined)))
    tree = minimum_spanning_tree(graph).tocoo()
    kept = best[np.isin(low[best] * len(joined) + high[best], tree.row.astype(np.int64) * len(joined) + tree.col)]
    return Edges(*(part[kept] for part in edges))


def _components(found: list[Edges], count: int) -> np.ndarray:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    left, right = (np.concatenate([edges[side] for edges in found]) for side in (0, 1))
    graph = coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _ordered(one: pa.Array, other: pa.Array, similarity: np.ndarray) -> pa.Table:
    is_first = pc.less(one, other)
    a, b = pc.if_else(is_first, one, other), pc.if_else(is_first, other, one)
    return pa.table({"a": a, "b": b, "similarity": pa.array(similarity, pa.float32())})
