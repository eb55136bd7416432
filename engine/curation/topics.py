"""Topic clusters of embeddings by k-means, their typical words, and a 2-D map, in pieces that each see one shard of the rows.

Topic clusters balance what is picked; they have nothing to do with duplicates. Rows come sorted by prompt_id and FAISS runs on one
thread with a fixed seed, so equal rows give equal clusters. Centres are trained on at most ROWS_PER_CENTRE rows a centre, those
that FAISS itself would draw, so they do not depend on shards.
"""

import math
from collections import Counter

import faiss
import numpy as np

from engine.dedup.words import words

ROWS_PER_CENTRE = 256  # the default of faiss.ClusteringParameters.max_points_per_centroid


def training_rows(rows: int, *, count: int, seed: int) -> np.ndarray:
    """Return the numbers of those of `rows` rows on which `count` centres are trained, in the order in which FAISS would draw them.

    Drawing holds 4 bytes a row.
    """
    most = min(count, rows) * ROWS_PER_CENTRE
    if rows <= most:
        return np.arange(rows)
    drawn = np.empty(rows, np.int32)
    faiss.rand_perm(faiss.swig_ptr(drawn), rows, seed)
    return drawn[:most].astype(np.int64)


def train(vectors: np.ndarray, *, count: int, seed: int) -> np.ndarray:
    """Return the centres of spherical k-means of the `training_rows`, (at most `count`, dimensions) of float32."""
    faiss.omp_set_num_threads(1)
    kmeans = faiss.Kmeans(
        vectors.shape[1], min(count, len(vectors)), niter=25, seed=seed, spherical=True, min_points_per_centroid=1,
        max_points_per_centroid=ROWS_PER_CENTRE,
    )  # fmt: skip
    kmeans.train(np.ascontiguousarray(vectors))
    assert kmeans.centroids is not None
    return kmeans.centroids


def nearest_centre(vectors: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the nearest centre of each row, (rows,) int64, and the cosine to it, (rows,) float32."""
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(centres.shape[1])
    index.add(np.ascontiguousarray(centres))
    closeness, label = index.search(np.ascontiguousarray(vectors), 1)
    return label[:, 0], closeness[:, 0]


def numbers_by_size(sizes: np.ndarray) -> np.ndarray:
    """Return the number of each cluster, by falling size; of equals the first comes first."""
    numbers = np.empty(len(sizes), np.int32)
    numbers[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return numbers


def scatter(vectors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the scatter matrix of `vectors` about `mean`, (dimensions, dimensions) of float64; those of shards are added."""
    centred = vectors - mean
    return (centred.T @ centred).astype(np.float64)


def principal_axes(scattered: np.ndarray) -> np.ndarray:
    """Return the first two principal axes, (dimensions, 2), of a scatter matrix; the largest loading of each is positive."""
    _, axes = np.linalg.eigh(scattered)
    axes = axes[:, -2:][:, ::-1]
    return axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])


def project(vectors: np.ndarray, mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return the positions of `vectors` on `axes`, (rows, 2) of float32."""
    return ((vectors - mean) @ axes).astype(np.float32)


def typical_words(texts: list[str], number: np.ndarray, *, count: int = 3) -> dict[int, str]:
    """Return, for each cluster, the `count` words that occur in many of its texts and in few others (TF-IDF over clusters)."""
    document_frequency: Counter[str] = Counter()
    counts: dict[int, Counter[str]] = {}
    for text, cluster_number in zip(texts, number.tolist(), strict=True):
        present = {word for word in words(text) if len(word) > 2 and not word.isdigit()}
        counts.setdefault(cluster_number, Counter()).update(present)
        document_frequency.update(present)
    labels = {}
    for cluster_number, local in counts.items():
        size = int((number == cluster_number).sum())
        weight = {word: local[word] / size * math.log((1 + len(texts)) / document_frequency[word]) for word in local}
        labels[cluster_number] = ", ".join(sorted(weight, key=lambda word: (-weight[word], word))[:count])
    return labels
