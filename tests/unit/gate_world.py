"""Made-up answers of a teacher and its students to a holdout in clusters, many holdouts at once; no model is asked."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.stats.clusters import Clusters

SMALL = [3] * 24 + [1] * 56  # 128 prompts of 80 phrasings
LARGE = [4] * 110 + [2] * 130  # 700 prompts of 240 phrasings
TEACHER, RESCUED = 0.82, 0.2


class World(NamedTuple):
    """`right` of each model, (holdouts, prompts) of 1 = right, and the clusters of the prompts."""

    teacher: np.ndarray
    students: list[np.ndarray]
    clusters: Clusters


def rates(draw: np.random.Generator, mean: float, icc: float, shape: tuple[int, int]) -> np.ndarray:
    """Beta-distributed rates of clusters: within a cluster, rows of a rate correlate by `icc`."""
    if not icc:
        return np.full(shape, mean)
    scale = (1 - icc) / icc
    return draw.beta(mean * scale, (1 - mean) * scale, shape)


def hits(holdouts: int, sizes: Sequence[int], rate: float, *, icc: float, seed: int) -> tuple[np.ndarray, Clusters]:
    """(holdouts, prompts) of 1 and 0 with the mean `rate`."""
    draw, index = np.random.default_rng(seed), np.repeat(np.arange(len(sizes)), sizes)
    own = rates(draw, rate, icc, (holdouts, len(sizes)))[:, index]
    return (draw.random(own.shape) < own).astype(np.float64), Clusters(index.tolist())


def world(holdouts: int, sizes: Sequence[int], *, retention: float, students: int = 1, icc: float = 0.5, seed: int = 0) -> World:
    """Students that keep `retention` of the teacher's exact match; their losses cluster as the teacher's errors do."""
    draw, index = np.random.default_rng(seed), np.repeat(np.arange(len(sizes)), sizes)
    shape = (holdouts, len(sizes))

    def drawn(mean: float) -> np.ndarray:
        return rates(draw, mean, icc, shape)[:, index]

    teacher = (draw.random((holdouts, len(index))) < drawn(TEACHER)).astype(np.float64)
    kept = (retention * TEACHER - (1 - TEACHER) * RESCUED) / TEACHER
    own = [draw.random(teacher.shape) < np.where(teacher == 1, drawn(kept), drawn(RESCUED)) for _ in range(students)]
    return World(teacher, [each.astype(np.float64) for each in own], Clusters(index.tolist()))
