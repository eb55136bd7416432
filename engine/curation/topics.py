"""Topic clusters of embeddings by k-means, their typical words, and a 2-D map. One process, 2 KB a row.

Topic clusters balance what is picked; they have nothing to do with duplicates. Rows come sorted by prompt_id and FAISS runs on one
thread with a fixed seed, so equal rows give equal clusters.
"""

import math
from collections import Counter
from typing import NamedTuple

import faiss
import numpy as np

from engine.dedup.words import words


class Topics(NamedTuple):
    """The topic cluster of each row. Clusters are numbered by size, the largest first."""

    number: np.ndarray  # int32
    closeness: np.ndarray  # cosine to the centre, float32


def topic_clusters(vectors: np.ndarray, *, count: int, seed: int) -> Topics:
    """Return spherical k-means clusters of unit `vectors`, at most `count` and never more than rows."""
    faiss.omp_set_num_threads(1)
    kmeans = faiss.Kmeans(
        vectors.shape[1], min(count, len(vectors)), niter=25, seed=seed, spherical=True, min_points_per_centroid=1
    )
    kmeans.train(vectors)
    closeness, label = kmeans.index.search(vectors, 1)
    sizes = np.bincount(label[:, 0])
    numbers = np.empty(len(sizes), np.int32)
    numbers[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return Topics(numbers[label[:, 0]], closeness[:, 0])


def project_2d(vectors: np.ndarray) -> np.ndarray:
    """Return the first two principal components, (rows, 2) of float32; the largest loading of each is positive."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    axes = axes[:, -2:][:, ::-1]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    return (centred @ (axes * signs)).astype(np.float32)


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
