"""Buckets on Ray: the one shuffle that copies need. Shared by the rooms that look for copies."""

from ray.data import Dataset

from engine.contract.profile import Pool
from engine.fleet import stream
from engine.similarity.buckets import pairs

ROWS_PER_PARTITION = 1_000_000  # of (key, kind, id), some 50 MB


def pair_up(keys: Dataset, pool: Pool, *, rows: int, partitions: int | None = None) -> Dataset:
    """(key, kind, id) in, (a, b, kind) out; `rows` is about how many keys there are. More partitions change no result."""
    count = partitions or max(1, rows // ROWS_PER_PARTITION)
    return stream.apply(keys.repartition(count, keys=["key"]), pairs, pool)
