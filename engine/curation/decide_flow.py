"""Semantic duplicates, topic clusters, the map and the picks, in shards: of all rows no task holds more than numbers.

    shard        the rows of a range of prompt_ids, about SHARD_ROWS, meet and are compared with protected texts; beyond
                 MOST_PARTS shards (6.4 million rows) shards grow, so that a step has at most MOST_PARTS squared references
    duplicates   within a shard where it is the only one; else as `engine/dedup/flow.py` finds them, over all shards
    topics       centres are trained on a sample; each shard is placed among them, and adds its part of the map's axes
    pick         without a limit each shard picks by itself; else one task holds 80 to 100 bytes a row that may be picked. Vectors
                 are read shard by shard, by the orders that look at them. Of more than a million rows tasks hold ranges of the
                 order, one after the other (`pick_flow`), but for the two orders that look at what is picked
    finish       each shard gets its dispositions and its measures, which are added

Shards are cut by prompt_id and by the number of rows, so they are the same for any blocks of the input.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from engine.contract.curation import Curation
from engine.curation import decide, lost_flow, measure, pick_flow, topics
from engine.curation.contamination import Resemblance
from engine.curation.decide import Frame, Lost, Placed, Shard
from engine.curation.embedder import EMBEDDED
from engine.curation.measure import Measures
from engine.curation.select import evenly_spread, landmarks, select
from engine.curation.vector_shards import VectorShards, mean_of_shards
from engine.dedup.plan import MOST_PARTS
from engine.distributed.executor import Executor, returned
from engine.distributed.rows import Ref
from engine.records.dataset import Selection, TopicCluster

SHARD_ROWS = 25_000  # 40 MB of vectors with 384 dimensions; a task holds two or three times as much
AT_ONCE = 8  # shards of which one task adds what the map needs
DESCRIBED = 50_000  # rows whose words describe clusters: of more, so many, evenly spread


class Decided(NamedTuple):
    """References to what was decided, one for each shard that has rows, and to the summary of all."""

    dispositions: list[Ref]  # dispositions.DISPOSITION
    resemblance: list[Ref]  # contamination.Resemblance
    summary: Ref | None  # (clusters, selection); None without rows
    numbers: list[int]  # of each shard among all, also those without rows
    total: int  # of all

    def in_range(self, number: int, count: int) -> list[Ref]:
        """Return the dispositions of the shards that may have rows of the range `number` of `count` (`range_numbers`)."""
        first, last = (-(-(edge << 32) // count) for edge in (number, number + 1))
        shards = range(first * self.total >> 32, ((last - 1) * self.total >> 32) + 1)
        return [mine for shard, mine in zip(self.numbers, self.dispositions, strict=True) if shard in shards]


class Shards(NamedTuple):
    """References to the parts of the shards that have rows, how many rows each has, and its number among all shards."""

    shards: list[Ref]  # decide.Shard without vectors
    vectors: list[Ref]
    rows: list[int]
    numbers: list[int]
    total: int  # of all shards

    @property
    def starts(self) -> list[int]:
        """The number of the first row of each shard among all rows."""
        return np.cumsum([0, *self.rows[:-1]]).tolist()


NO_SHARDS = Shards([], [], [], [], 0)
Added = tuple[Counter[int], np.ndarray]
"""Rows of each cluster, and the scatter matrix, of some shards."""


def shards_of(blocks: list[Ref], rows: int, protected: Ref, section: Curation, executor: Executor) -> Shards:
    """Return `rows` rows of EMBEDDED in `blocks` as shards, which are made when it returns.

    Of `blocks`, which is emptied, and of their pieces no reference is kept once a task has got it: with their vectors all rows are
    held once and not three times. `protected` is PROTECTED with `embedding`, empty if nothing is compared.
    """
    if not rows:
        return NO_SHARDS
    count = min(MOST_PARTS, 1 + (rows - 1) // SHARD_ROWS)
    bundles = [blocks[first::MOST_PARTS] for first in range(min(MOST_PARTS, len(blocks)))]
    blocks.clear()
    split = [executor.start(_split, count, *bundles.pop(0), returns=count) for _ in range(len(bundles))]
    of_shard = [*zip(*split, strict=True)]
    split.clear()
    made = [executor.start(_shard, section, protected, *of_shard.pop(0), returns=3) for _ in range(count)]
    lengths = executor.fetch([length for *_, length in made])
    kept = [(*mine[:2], length, number) for number, (mine, length) in enumerate(zip(made, lengths, strict=True)) if length]
    if not kept:
        return NO_SHARDS
    shards, vectors, rows_of, numbers = (list(column) for column in zip(*kept, strict=True))
    return Shards(shards, vectors, rows_of, numbers, count)


def decide_all(shards: Shards, section: Curation, executor: Executor, *, at_once: int = 1) -> Decided:
    """Decide on all rows of `shards`; the executor runs so many tasks `at_once`."""
    if not shards.rows:
        return Decided([], [], None, [], 0)
    lost = lost_flow.lost(shards.shards, shards.vectors, shards.rows, section, executor, at_once=at_once)
    mean = mean_of_shards(shards.vectors, shards.rows, executor)
    k, seed = section.pick.clusters, section.seed
    [sample] = executor.start(_training_rows, sum(shards.rows), k, seed)
    [centres] = executor.start(_train, k, seed, sample, shards.starts, *_taken(shards, sample, executor))
    placed = [executor.start(decide.place, vectors, centres, mean)[0] for vectors in shards.vectors]
    marks = landmarks(sum(shards.rows))
    [frame] = executor.start(_frame, mean, _added(placed, executor), *_taken(shards, marks, executor))
    picked = _picked(shards, placed, frame, lost, section, executor)
    parts = list(zip(shards.shards, shards.vectors, placed, picked, strict=True))
    finished = [executor.start(_finish, frame, of, *part, returns=3) for of, part in zip(lost, parts, strict=True)]
    shown = (sum(shards.rows), DESCRIBED)
    texts = [
        executor.start(_texts, *part, frame, start, shown)[0]
        for *part, start in zip(shards.shards, placed, shards.starts, strict=True)
    ]
    [summary] = executor.start(_summary, len(finished), *(measures for _, measures, _ in finished), *texts)
    return Decided([table for table, *_ in finished], [counts for *_, counts in finished], summary, shards.numbers, shards.total)


def _picked(
    shards: Shards, placed: list[Ref], frame: Ref, lost: list[Ref], section: Curation, executor: Executor
) -> list[Ref]:  # fmt: skip
    """Return references to the mask of the picked rows of each shard."""
    if not section.pick.limits:
        return [executor.start(decide.stays, *both)[0] for both in zip(shards.shards, lost, strict=True)]
    parts = zip(shards.shards, shards.vectors, placed, lost, strict=True)
    prepared = [executor.start(_pickable, section, frame, *part, returns=4) for part in parts]
    columns, masks, vectors, lengths = (list(column) for column in zip(*prepared, strict=True))
    vectors, rows = vectors if _looks_at_vectors(section) else [], executor.fetch(lengths)
    if section.pick.order in pick_flow.ORDERS and sum(rows) > pick_flow.RANGE_ROWS:
        picked = pick_flow.pick(columns, vectors, rows, section.pick, executor)
    else:
        picked = executor.start(_pick, section, vectors, *columns, returns=len(columns))
    return [executor.start(_among, *both)[0] for both in zip(masks, picked, strict=True)]


def _added(placed: Sequence[Ref], executor: Executor) -> Ref:
    """Return a reference to what Frame needs of all shards; a task reads AT_ONCE, each with a matrix of a megabyte."""
    [added] = executor.start(_add, None, *placed[:AT_ONCE])
    for start in range(AT_ONCE, len(placed), AT_ONCE):
        [added] = executor.start(_add, added, *placed[start : start + AT_ONCE])
    return added


def _taken(shards: Shards, numbers: Any, executor: Executor) -> list[Ref]:
    """Return references to the vectors of each shard's rows among `numbers`, numbers of all rows, in their order."""
    return [executor.start(_take, *part, numbers)[0] for part in zip(shards.vectors, shards.starts, strict=True)]


def _split(shards: int, *blocks: pa.Table) -> Any:
    """Return the rows of the blocks by shard: a range of the first 32 bits of prompt_id, which is a hash in hex."""
    rows = pa.concat_tables([EMBEDDED.empty_table(), *(block.select(EMBEDDED.names) for block in blocks if block.num_rows)])
    if shards == 1:
        return rows
    of_row = range_numbers(rows["prompt_id"], shards)
    return [rows.take(pa.array(np.flatnonzero(of_row == number))) for number in range(shards)]


def range_numbers(prompt_ids: pa.ChunkedArray, count: int) -> np.ndarray:
    """Return the number of the range of each prompt_id, a hash in hex, of which the first 32 bits are cut into `count` ranges."""
    return np.array([int(name[:8], 16) * count >> 32 for name in prompt_ids.to_pylist()], np.int64)


def _shard(section: Curation, protected: pa.Table, *pieces: pa.Table) -> tuple[Shard, np.ndarray, int]:
    shard = decide.shard_of(list(pieces), protected, section)
    return shard._replace(vectors=shard.vectors[:0]), shard.vectors, len(shard.rows)


def _training_rows(rows: int, count: int, seed: int) -> np.ndarray:
    return topics.training_rows(rows, count=count, seed=seed)


def _take(vectors: np.ndarray, start: int, numbers: np.ndarray) -> np.ndarray:
    return vectors[numbers[(start <= numbers) & (numbers < start + len(vectors))] - start]


def _train(count: int, seed: int, sample: np.ndarray, starts: list[int], *taken: np.ndarray) -> np.ndarray:
    """Return the centres; `taken` are the vectors of the `sample` in each shard."""
    of_shard = np.searchsorted(starts, sample, side="right")
    vectors = np.empty((len(sample), taken[0].shape[1]), np.float32)
    vectors[np.argsort(of_shard, kind="stable")] = np.concatenate(taken)
    return topics.train(vectors, count=count, seed=seed)


def _add(added: Added | None, *placed: Placed) -> Added:
    sizes, scatter = added or (Counter[int](), np.zeros_like(placed[0].scatter))
    sizes, scatter = sizes.copy(), scatter.copy()  # the argument is not this task's own
    for of_shard in placed:
        sizes.update(dict(enumerate(np.bincount(of_shard.label).tolist())))
        scatter += of_shard.scatter
    return sizes, scatter


def _frame(mean: np.ndarray, added: Added, *marks: np.ndarray) -> Frame:
    """Return what all rows have in common."""
    sizes, scattered = added
    by_label = np.array([sizes[label] for label in range(max(sizes) + 1)])
    return Frame(topics.numbers_by_size(by_label), mean, topics.principal_axes(scattered), np.concatenate(marks))


def _pickable(
    section: Curation, frame: Frame, shard: Shard, vectors: np.ndarray, placed: Placed, lost: Lost
) -> tuple[pa.Table, np.ndarray, np.ndarray | None, int]:
    mask = decide.stays(shard, lost)
    of_rows = vectors[mask] if _looks_at_vectors(section) else None
    columns = decide.pickable(shard, placed, frame.numbers, mask, section.pick)
    return columns, mask, of_rows, len(columns)


def _looks_at_vectors(section: Curation) -> bool:
    return section.pick.limits and section.pick.order in decide.LOOKS_AT_VECTORS


def _pick(section: Curation, vectors: list[Ref], *tables: pa.Table) -> Any:
    """Return the mask of the picked rows of each of `tables`, which are decide.pickable."""
    rows, sizes = pa.concat_tables(tables), [len(table) for table in tables]
    is_picked = np.ones(len(rows), bool)
    if len(rows):
        # Where the order looks at no vector, there are as many as rows, without dimensions.
        of_rows = VectorShards(vectors, sizes) if vectors else np.empty((len(rows), 0), np.float32)
        is_picked = select(decide.eligible(rows, of_rows, section.pick), section.pick)
    return returned(np.split(is_picked, np.cumsum(sizes)[:-1]))


def _among(mask: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """Return the mask of the picked rows among all, of those that `mask` has."""
    among = mask.copy()  # the argument is not this task's own
    among[mask] = picked
    return among


def _finish(
    frame: Frame, lost: Lost, shard: Shard, vectors: np.ndarray, placed: Placed, is_picked: np.ndarray
) -> tuple[pa.Table, Measures, Resemblance]:
    whole = shard._replace(vectors=vectors)
    return decide.dispositions(whole, placed, frame, lost, is_picked), *decide.measures(whole, placed, frame, is_picked)


def _texts(shard: Shard, placed: Placed, frame: Frame, start: int, shown: tuple[int, int]) -> tuple[list[str], np.ndarray]:
    """Return the texts and the clusters of a shard's rows among those that are `shown`: of all rows at most so many."""
    rows = evenly_spread(*shown) - start
    rows = rows[(rows >= 0) & (rows < len(shard.rows))]
    return shard.rows["text"].take(pa.array(rows)).to_pylist(), frame.numbers[placed.label[rows]]


def _summary(count: int, *parts: Any) -> tuple[tuple[TopicCluster, ...], Selection]:
    measures, texts = parts[:count], parts[count:]
    labels = topics.typical_words([text for of, _ in texts for text in of], np.concatenate([number for _, number in texts]))
    return measure.clusters(measures, labels), measure.selection(measures)
