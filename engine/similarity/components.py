"""Who is a copy of whom, from pairs: connected components in one process, and the keeper of each.

Memory: 8 bytes a node and 16 a pair. Rows are numbered by rank, best first, so the keeper of a component is its smallest number.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.similarity.minhash import estimate


class Groups(NamedTuple):
    """For each row, by its number, the keeper of its group; a row that is its own keeper stays."""

    keeper: np.ndarray  # over exact copies and checked near copies
    exact: np.ndarray  # over exact copies alone: equal for two rows that are exact copies of each other
    similarity: np.ndarray  # to the keeper, float32


def keepers(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return for each of `count` nodes the smallest node of its component under the pairs (left, right)."""
    from scipy.sparse import coo_matrix  # half a second that only one process needs
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(count, count))
    found, label = connected_components(graph, directed=False)
    smallest = np.full(found, count, np.int64)
    np.minimum.at(smallest, label, np.arange(count))
    return smallest[label]


def group(ids: pa.ChunkedArray | pa.Array, minima: np.ndarray | None, pairs: pa.Table, *, threshold: float) -> Groups:
    """Return the groups of rows `ids`, ranked, under `pairs` (a, b, kind) of their ids.

    A pair of kind `exact` counts; a pair of kind `near` counts where the signatures `minima` (rows in the order of `ids`)
    estimate at least `threshold`. Pairs of an id that is not among `ids` are left out.
    """
    exact = numbered(ids, pairs.filter(pc.equal(pairs["kind"], "exact")))
    near = numbered(ids, pairs.filter(pc.equal(pairs["kind"], "near")))
    if minima is not None:
        near = near[:, estimate(minima[near[0]], minima[near[1]]) >= threshold]
    both = np.concatenate([exact, near], axis=1)
    keeper = keepers(len(ids), *both)
    same = keepers(len(ids), *exact)
    similarity = np.ones(len(ids), np.float32)
    far = np.flatnonzero(same != same[keeper])
    if minima is not None:
        similarity[far] = estimate(minima[far], minima[keeper[far]])
    return Groups(keeper, same, similarity)


def numbered(ids: pa.ChunkedArray | pa.Array, pairs: pa.Table) -> np.ndarray:
    """Return `pairs` as row numbers, (2, pairs), each pair once."""
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    both = pa.table({"a": pc.index_in(pairs["a"], ids), "b": pc.index_in(pairs["b"], ids)}).drop_null()
    found = np.stack([both["a"].to_numpy(), both["b"].to_numpy()]).astype(np.int64)
    return np.unique(np.sort(found, axis=0), axis=1)
