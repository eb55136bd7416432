"""Lines through what `rayleigh bench scale` measured, and how each quantity grows: pure arithmetic.

Counts and bytes are fitted to all sizes by least squares of the relative error, no coefficient below zero. Memory is the line
through the two largest sizes: below them a block is still growing. What grows less than NOISE between these is taken as constant,
and `Line.unseen` is the slope that would have looked the same.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from engine.records.scale import Line, Per, StageModel, StageUse

COUNTS: dict[str, Per] = {"objects": "block", "references": "block", "files": "block", "list_calls": "block"}
SUMS = ("cpu_seconds", "shuffled_bytes", "spilled_bytes", "storage_bytes")
MEMORY = ("driver_bytes", "head_bytes", "task_bytes")
QUANTITIES = (*SUMS, *COUNTS, *MEMORY)
IN_BLOCKS = ("candidates",)  # stages whose counts follow the blocks of the profile, not the rows
NOISE = 8 * 2**20  # bytes that the peak of a process differs by between two runs of the same size
SAME, WITH_ROWS = 0.1, (0.85, 1.15)  # exponents of growth: below and within these

Verdict = Literal["none", "constant", "slower than rows", "with rows", "faster than rows"]


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
    for quantity in QUANTITIES:
        known = [use for use in ordered if getattr(use, quantity) is not None]
        if len({use.rows for use in known}) >= 2:
            lines[quantity] = _memory(known, quantity) if quantity in MEMORY else _sum(known, quantity)
    return StageModel(stage=ordered[0].stage, lines=lines)


def value(line: Line, *, rows: float, blocks: float) -> float:
    """Return the quantity of `line` at a size."""
    return line.fixed + line.slope * (blocks if line.per == "block" else rows)


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


def _per(stage: str, quantity: str) -> Per:
    return COUNTS.get(quantity, "row") if stage in IN_BLOCKS else "row"


def _sum(uses: Sequence[StageUse], quantity: str) -> Line:
    from scipy.optimize import nnls  # a quarter of a second

    per = _per(uses[0].stage, quantity)
    x = np.array([use.blocks if per == "block" else use.rows for use in uses], float)
    y = np.array([getattr(use, quantity) for use in uses], float)
    if not y.any() or len(set(x)) < 2:
        return Line(fixed=float(y.mean()), slope=0.0, per=per)
    weight, scale = 1 / np.maximum(y, y.max() * 1e-3), x.max()
    (fixed, slope), _ = nnls(np.stack([weight, weight * x / scale], axis=1), weight * y)
    return Line(fixed=float(fixed), slope=float(slope / scale), per=per)


def _memory(uses: Sequence[StageUse], quantity: str) -> Line:
    smaller, larger = uses[-2:]
    before, after, rows = getattr(smaller, quantity), getattr(larger, quantity), larger.rows - smaller.rows
    if after - before < NOISE:
        return Line(fixed=float(max(before, after)), slope=0.0, unseen=NOISE / rows)
    slope = (after - before) / rows
    return Line(fixed=float(max(0.0, after - slope * larger.rows)), slope=slope)
