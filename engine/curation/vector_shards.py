"""Vectors in shards, behind the few operations of a matrix that picking uses, so that it never holds them all."""

from collections.abc import Sequence

import numpy as np

from engine.distributed.executor import Executor
from engine.distributed.in_process import get
from engine.distributed.rows import Ref


class VectorShards:
    """Unit vectors (rows, dimensions), of which one shard at a time is read. It is read again whenever its rows are needed."""

    def __init__(self, shards: Sequence[Ref], rows: Sequence[int]) -> None:
        """`shards` are references to arrays, and `rows` their lengths."""
        self.shards = [shard for shard, count in zip(shards, rows, strict=True) if count]
        self.ends = np.cumsum([count for count in rows if count])

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __matmul__(self, other: np.ndarray) -> np.ndarray:
        """Return the product of each row with the vector `other`."""
        return np.concatenate([get(shard) @ other for shard in self.shards])

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """Return the vector of a row, or the vectors (rows, dimensions) of a slice or of row numbers."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        numbers = np.atleast_1d(rows)
        of_shard = np.searchsorted(self.ends, numbers, side="right")
        found = [(of_shard == shard, self._take(shard, numbers[of_shard == shard])) for shard in np.unique(of_shard).tolist()]
        if len(found) == 1:
            return found[0][1] if isinstance(rows, np.ndarray) else found[0][1][0]
        vectors = np.empty((len(numbers), found[0][1].shape[1]), found[0][1].dtype)
        for is_mine, mine in found:
            vectors[is_mine] = mine
        return vectors

    def mean(self, axis: int = 0) -> np.ndarray:
        """Return the mean vector."""
        assert axis == 0, "vectors are rows"
        return mean_of([get(shard).mean(axis=0) for shard in self.shards], np.diff(self.ends, prepend=0))

    def _take(self, shard: int, numbers: np.ndarray) -> np.ndarray:
        return get(self.shards[shard])[numbers - (self.ends[shard - 1] if shard else 0)]


Vectors = np.ndarray | VectorShards


def mean_of_shards(shards: Sequence[Ref], rows: Sequence[int], executor: Executor) -> Ref:
    """Return a reference to the mean of all vectors in `shards`, those with `rows`."""
    kept = [(shard, count) for shard, count in zip(shards, rows, strict=True) if count]
    means = [executor.start(_mean, shard)[0] for shard, _ in kept]
    return executor.start(_mean_of, [count for _, count in kept], *means)[0]


def _mean(vectors: np.ndarray) -> np.ndarray:
    return vectors.mean(axis=0)


def _mean_of(rows: Sequence[int], *means: np.ndarray) -> np.ndarray:
    return mean_of(means, rows)


def mean_of(means: Sequence[np.ndarray], rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the mean vector of shards with `means` (dimensions,) and numbers of `rows`."""
    weighted = sum(mean.astype(np.float64) * count for mean, count in zip(means, rows, strict=True))
    return (np.asarray(weighted) / sum(rows)).astype(np.float32)
