"""Lines through what `rayleigh bench scale` measured, and how each quantity grows: pure arithmetic.

Counts, bytes and CPU are fitted by least squares of the relative error, no coefficient below zero, to the sizes of the last decade:
smaller ones are start-up for the most part. Memory is the line through the two largest sizes, as below them blocks are still
growing, but for what sees one block in any case. What grows less than NOISE between these is taken as constant, and `Line.unseen`
is the growth that would have looked the same. A task of a stage that was not measured in two blocks has no line: the growth of its
one block says nothing of a larger run.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from engine.contract.profile import Pool
from engine.curation.answers import PROMPTS_PER_PARTITION
from engine.records.scale import Line, StageModel, StageUse

SUMS = ("cpu_seconds", "shuffled_bytes", "spilled_bytes", "storage_bytes", "objects", "references", "files", "list_calls")
MEMORY = ("driver_bytes", "head_bytes", "task_bytes")
QUANTITIES = (*SUMS, *MEMORY)
FITTED = tuple(name for name in QUANTITIES if name != "spilled_bytes")  # which is what exceeds the object store
BY_ROWS = ("fixed", "row")
OF_CANDIDATES = {
    "storage_bytes": ("row", "block"), "objects": ("fixed", "block"), "references": ("fixed", "block"), "files": ("fixed", "block"),
    "list_calls": ("block", "batch"),
}  # fmt: skip
"""What the quantities of `candidates` are made of, whose blocks and batches are the profile's; all others are lines of rows."""
OF_A_BLOCK = {("candidates", "task_bytes")}
"""Memory that is bounded by construction: a task of `candidates` sees one block, at most `profile.BLOCK_ROWS` answers."""
BLOCK = {"prompts": 32_000, "dataset": PROMPTS_PER_PARTITION}
"""Rows of a block of the benchmark: of 8 MiB of its prompts, and of a partition. One block holds all rows below twice as many."""
NOISE = 8 * 2**20  # bytes that the peak of a process differs by between two runs of the same size
DECADE = 10  # the largest size by the smallest that sums are fitted to, unless there are fewer than two of these
SAME, WITH_ROWS = 0.1, (0.85, 1.15)  # exponents of growth: below and within these

Verdict = Literal["none", "constant", "slower than rows", "with rows", "faster than rows"]


class Work(NamedTuple):
    """What a stage has to do."""

    rows: float
    """Rows that it reads."""
    blocks: float
    """Blocks of `candidates`."""
    batches: float
    """Batches of `candidates`."""


def work_of(prompts: int, pool: Pool, *, shard_rows: int, answers: int = 1) -> Work:
    """Return the work of `candidates` for `prompts` in shards of `shard_rows`, with `answers` to each by actors of `pool`."""
    size = pool.block(prompts, answers=answers)
    shards, last = divmod(prompts, shard_rows)
    counts = [(shards, shard_rows), (1, last)]
    blocks = sum(times * math.ceil(rows / size) for times, rows in counts)
    per_block = math.ceil(size / pool.batch)
    batches = sum(times * (rows // size * per_block + math.ceil(rows % size / pool.batch)) for times, rows in counts)
    return Work(prompts * answers, blocks, batches)


class Growth(NamedTuple):
    """How a quantity grows from one size to the next."""

    ratio: float
    """Quantity at the larger size divided by that at the smaller."""
    exponent: float
    """Of the power of rows with which it grew."""
    verdict: Verdict


def fit(uses: Sequence[StageUse]) -> StageModel:
    """Return the lines of one stage, measured at two sizes or more.

    Raises:
        ValueError: fewer than two sizes.
    """
    if len({use.rows for use in uses}) < 2:
        raise ValueError("a line needs two sizes")
    ordered = sorted(uses, key=lambda use: use.rows)
    lines = {}
    for quantity in FITTED:
        known = [use for use in ordered if getattr(use, quantity) is not None]
        if len({use.rows for use in known}) >= 2 and (quantity != "task_bytes" or is_cut(known[-2].stage, known[-2].rows)):
            lines[quantity] = _memory(known, quantity) if quantity in MEMORY else _sum(_last(known), quantity)
    return StageModel(stage=ordered[0].stage, lines=lines)


def is_cut(stage: str, rows: int) -> bool:
    """Return whether the benchmark of `rows` cuts the rows of `stage` into two blocks or more, or a task sees one in any case."""
    return stage not in BLOCK or rows >= 2 * BLOCK[stage]


def value(line: Line, work: Work) -> float:
    """Return the quantity of `line` for a work."""
    return line.fixed + line.row * work.rows + line.block * work.blocks + line.batch * work.batches


def growth(smaller: StageUse, larger: StageUse, quantity: str) -> Growth | None:
    """Return how `quantity` grows between two sizes; None if it was not measured at both."""
    before, after = getattr(smaller, quantity), getattr(larger, quantity)
    if before is None or after is None:
        return None
    if not before and not after:
        return Growth(1.0, 0.0, "none")
    if not before:
        return Growth(math.inf, math.inf, "faster than rows")
    ratio = after / before
    exponent = math.log(max(ratio, 1e-9)) / math.log(larger.rows / smaller.rows)
    is_noise = quantity in MEMORY and after - before < NOISE
    if is_noise or exponent < SAME:
        return Growth(ratio, exponent, "constant")
    if exponent < WITH_ROWS[0]:
        return Growth(ratio, exponent, "slower than rows")
    return Growth(ratio, exponent, "with rows" if exponent <= WITH_ROWS[1] else "faster than rows")


def _last(ordered: Sequence[StageUse]) -> Sequence[StageUse]:
    """Return the uses of the last decade, or of the two largest sizes."""
    sizes = sorted({use.rows for use in ordered})
    least = min(sizes[-1] / DECADE, sizes[-2])
    return [use for use in ordered if use.rows >= least]


def _sum(uses: Sequence[StageUse], quantity: str) -> Line:
    from scipy.optimize import nnls  # a quarter of a second

    terms = OF_CANDIDATES.get(quantity, BY_ROWS) if uses[0].stage == "candidates" else BY_ROWS
    y = np.array([getattr(use, quantity) for use in uses], float)
    if not y.any():
        return Line()
    of_term = {
        "fixed": [1.0] * len(uses), "row": [use.rows for use in uses], "block": [use.blocks for use in uses],
        "batch": [use.batches for use in uses],
    }  # fmt: skip
    x = np.array([of_term[term] for term in terms], float).T
    scale, weight = np.maximum(x.max(axis=0), 1.0), 1 / np.maximum(y, y.max() * 1e-3)
    found, _ = nnls(x / scale * weight[:, None], y * weight)
    found[found < y.max() * 1e-9] = 0.0  # the least squares leave a rest
    return Line(**dict(zip(terms, (found / scale).tolist(), strict=True)))


def _memory(uses: Sequence[StageUse], quantity: str) -> Line:
    if (uses[0].stage, quantity) in OF_A_BLOCK:
        return Line(fixed=float(max(getattr(use, quantity) for use in uses)))
    smaller, larger = uses[-2:]
    before, after, rows = getattr(smaller, quantity), getattr(larger, quantity), larger.rows - smaller.rows
    if after - before < NOISE:
        return Line(fixed=float(max(before, after)), unseen=NOISE / rows)
    slope = (after - before) / rows
    return Line(fixed=float(max(0.0, after - slope * larger.rows)), row=slope)
