"""Near-duplicates by meaning, clusters and a map, from embeddings. One process, 2 KB a row.

Rows come sorted by prompt_id, FAISS runs on one thread with a fixed seed: equal rows give equal clusters.
"""

import math
from collections import Counter
from typing import NamedTuple

import faiss
import numpy as np

from engine.dedup import semantic
from engine.dedup.words import words

EXACT = 10_000
AT_ONCE = 1_024


class Clusters(NamedTuple):
    """Where each row belongs. Clusters are numbered by size, the largest first."""

    number: np.ndarray  # int32
    closeness: np.ndarray  # cosine to the centre, float32


def leaders(vectors: np.ndarray, order: np.ndarray, *, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row the row it loses to, itself if it stays, and the cosine to it.

    Rows are taken in `order`, best first: one that is at least `threshold` near to a row that stayed loses to the nearest such.
    Not the components of near pairs: with meaning, a chain of small steps leads from anything to anything. A row is never lost to
    one that is unlike it. After Abbas et al., "SemDeDup" (2023).

    Up to EXACT rows are compared with all that stayed; of more, each with those in the clusters that it visits (semantic.REACH).
    """
    faiss.omp_set_num_threads(1)
    stayed = _index(vectors)
    leader, closeness = np.arange(len(vectors)), np.ones(len(vectors), np.float32)
    for start in range(0, len(order), AT_ONCE):
        rows = order[start : start + AT_ONCE]
        cosine, nearest = (found[:, 0] for found in stayed.search(vectors[rows], 1))
        together = vectors[rows] @ vectors[rows].T
        stays = np.zeros(len(rows), bool)
        for place in range(len(rows)):
            best, to = cosine[place], nearest[place]
            earlier = np.flatnonzero(stays[:place])
            if len(earlier) and together[place, earlier].max() > best:
                at = earlier[together[place, earlier].argmax()]
                best, to = together[place, at], rows[at]
            stays[place] = to < 0 or best < np.float32(threshold)
            if not stays[place]:
                leader[rows[place]], closeness[rows[place]] = to, best
        stayed.add_with_ids(vectors[rows[stays]], rows[stays])
    return leader, closeness


def _index(vectors: np.ndarray) -> faiss.Index:
    """An empty index of inner products, to be filled with rows by their numbers."""
    if len(vectors) <= EXACT:
        return faiss.IndexIDMap(faiss.IndexFlatIP(vectors.shape[1]))
    centres = semantic.fit(vectors, clusters=semantic.clusters_for(len(vectors)))
    coarse = faiss.IndexFlatIP(vectors.shape[1])
    coarse.add(centres)
    index = faiss.IndexIVFFlat(coarse, vectors.shape[1], len(centres), faiss.METRIC_INNER_PRODUCT)
    index.nprobe = semantic.REACH
    return index


def cluster(vectors: np.ndarray, *, count: int, seed: int) -> Clusters:
    """Return spherical k-means clusters of unit `vectors`, at most `count` and never more than rows."""
    faiss.omp_set_num_threads(1)
    means = faiss.Kmeans(vectors.shape[1], min(count, len(vectors)), niter=25, seed=seed, spherical=True, min_points_per_centroid=1)
    means.train(vectors)
    closeness, label = means.index.search(vectors, 1)
    sizes = np.bincount(label[:, 0])
    names = np.empty(len(sizes), np.int32)
    names[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return Clusters(names[label[:, 0]], closeness[:, 0])


def map_of(vectors: np.ndarray) -> np.ndarray:
    """Return the first two principal components, (rows, 2) of float32; of each the largest loading is positive."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    axes = axes[:, -2:][:, ::-1]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    return (centred @ (axes * signs)).astype(np.float32)


def typical_words(texts: list[str], number: np.ndarray, *, count: int = 3) -> dict[int, str]:
    """Return for each cluster the words that occur in many of its texts and in few others (TF-IDF over clusters)."""
    spread: Counter[str] = Counter()
    counts: dict[int, Counter[str]] = {}
    for text, cluster_number in zip(texts, number.tolist(), strict=True):
        found = {word for word in words(text) if len(word) > 2 and not word.isdigit()}
        counts.setdefault(cluster_number, Counter()).update(found)
        spread.update(found)
    out = {}
    for cluster_number, local in counts.items():
        size = int((number == cluster_number).sum())
        weight = {word: local[word] / size * math.log((1 + len(texts)) / spread[word]) for word in local}
        out[cluster_number] = ", ".join(sorted(weight, key=lambda word: (-weight[word], word))[:count])
    return out
