"""Runs what decides on made embeddings with an executor that keeps every result on disk, and prints the peak memory of the process.

    python memory_world.py ROWS FOLDER [ORDER]

So a process holds what one task holds: its arguments, its results, and what it computes. Prints the bytes over those of a run of
few rows.
"""

import resource
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa

from engine.contract.curation import Curation, Pick, Semantic
from engine.curation import decide_flow
from engine.curation.dispositions import of_answers
from engine.curation.embedder import EMBEDDED
from engine.curation.ngram_index import PROTECTED
from engine.dedup import plan, semantic
from engine.dedup.vectors import column
from engine.distributed.thread_pool import Ref
from engine.rows import content_id

DIMENSIONS, BLOCK, TOPICS = 384, 1_000, 50


class OnDisk(Ref):
    """A reference to a value in a file, which is read whenever it is asked for."""

    def __init__(self, path: Path, value: Any) -> None:
        super().__init__()
        self.path = path
        path.write_bytes(cloudpickle.dumps(value))

    def result(self, timeout: float | None = None) -> Any:
        """Read the value."""
        return cloudpickle.loads(self.path.read_bytes())


class DiskExecutor:
    """Calls each function at once, in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def put(self, value: Any) -> OnDisk:
        """Return a reference to `value`."""
        self.count += 1
        return OnDisk(self.folder / str(self.count), value)

    def start(self, op: Callable[..., Any], *args: Any, returns: int = 1) -> list[OnDisk]:
        """See `Executor.start`."""
        result = op(*(arg.result() if isinstance(arg, Ref) else arg for arg in args))
        return [self.put(value) for value in (result if returns > 1 else [result])]

    def fetch(self, refs: Any) -> Any:
        """See `Executor.fetch`."""
        return [ref.result() for ref in refs] if isinstance(refs, list) else refs.result()


def block(start: int, rows: int) -> pa.Table:
    """Return EMBEDDED of `rows` rows about TOPICS topics, a tenth of which are near copies of others of the block."""
    rng, topics = np.random.default_rng(start), np.random.default_rng(0).normal(size=(TOPICS, DIMENSIONS))
    vectors = (topics[np.arange(rows) % TOPICS] + rng.normal(size=(rows, DIMENSIONS))).astype(np.float32)
    vectors[: rows // 10] = vectors[rows // 2 : rows // 2 + rows // 10] + 0.01
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = range(start, start + rows)
    columns = {
        "prompt_id": pa.array([content_id("p", name) for name in names]),
        "embedding": column(vectors),
        "answer_id": pa.array([content_id("a", name) for name in names]),
        "text": pa.array([f"mail {name} of {name % 20} " + "about lamps " * 20 for name in names]),
        **{
            name: pa.array([f"{name} {number % 3}" for number in names])
            for name in ("task_unit", "layer", "difficulty", "scenario")
        },
        **{name: pa.array(rng.random(rows).astype(np.float32)) for name in ("confidence", "agreement", "mean_nll")},
        "length": pa.array(rng.integers(1, 500, rows)),
    }
    given = {name: columns.get(name, pa.nulls(rows, EMBEDDED.field(name).type)) for name in EMBEDDED.names}
    return pa.table(given).cast(EMBEDDED)


def peak() -> int:
    """Return the most bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def decide(rows: int, section: Curation, executor: DiskExecutor) -> None:
    """Decide on `rows` rows, and look up the dispositions of a block of answers range by range."""
    blocks = [executor.start(partial(block, start, min(BLOCK, rows - start)))[0] for start in range(0, rows, BLOCK)]
    shards = decide_flow.shards_of(blocks, rows, executor.put(PROTECTED.empty_table()), section, executor)
    found = decide_flow.decide_all(shards, section, executor)
    ids, ranges = block(0, BLOCK)["answer_id"], range(found.total)
    mine = (of_answers(ids, executor.fetch(found.in_range(number, found.total))) for number in ranges)
    assert sum(map(len, mine)) == BLOCK, "every row has a disposition"


def main(rows: int, folder: Path, order: str) -> None:
    """Print how many bytes more a run of `rows` rows holds than one of few."""
    decide_flow.SHARD_ROWS, decide_flow.DESCRIBED = 2_000, 2_000
    plan.VECTORS_PER_TASK, semantic.EXACT_UP_TO = 2_000, 1_000
    pick = Pick.model_validate({"clusters": 8, "order": order, "count": 10, "quotas": {"layer": {"*": 8}}})
    section, executor = Curation(semantic=Semantic(threshold=0.9), pick=pick), DiskExecutor(folder)
    decide(10_000, section, executor)
    before = peak()
    decide(rows, section, executor)
    print(peak() - before)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "typical")
