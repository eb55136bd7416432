"""What picking did to the distribution: how well the picked cover all, and how even each side is, before and after."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.curation.select import Eligible, density, landmarks

SIDES = ("task_unit", "layer", "difficulty", "cluster")


def coverage(vectors: np.ndarray, is_picked: np.ndarray) -> dict[str, float] | None:
    """Return over landmarks of all rows the `mean` and the `least` cosine to the nearest row that is picked; None if none is."""
    if not is_picked.any():
        return None
    marks, picked = vectors[landmarks(len(vectors))], vectors[is_picked]
    nearest = np.full(len(marks), -1, np.float32)
    for start in range(0, len(picked), 4_096):
        nearest = np.maximum(nearest, (marks @ picked[start : start + 4_096].T).max(axis=1))
    return {"mean": round(float(nearest.mean()), 4), "least": round(float(nearest.min()), 4)}


def evenness(counts: Sequence[int]) -> float | None:
    """Return the entropy of a distribution over the most that so many values could have (Pielou, 1966): 1 if all have as many rows.

    None if there is only one value.
    """
    present = [count for count in counts if count]
    if len(counts) < 2:
        return None
    entropy = -sum(count / sum(present) * math.log(count / sum(present)) for count in present)
    return round(entropy / math.log(len(counts)), 4)


def balance(sides: Mapping[str, Sequence[str]], is_picked: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Return side -> `before` and `after`: the evenness of all rows and of the picked ones, over the values that occur."""
    found = {}
    for side, values in sides.items():
        before = Counter(values)
        after = Counter(value for value, stays in zip(values, is_picked.tolist(), strict=True) if stays)
        found[side] = {
            "before": evenness(list(before.values())),
            "after": evenness([after[value] for value in before]) if after else None,
        }
    return found


def selection(rows: Eligible, is_picked: np.ndarray) -> dict[str, Any]:
    """Return `coverage`, `balance`, the mean information density in nats a token, and the mean signals, `before` and `after`."""
    worth = density(rows)
    mean = {"before": worth.mean() if len(worth) else 0.0, "after": worth[is_picked].mean() if is_picked.any() else 0.0}
    return {
        "rows": {"before": len(rows.vectors), "after": int(is_picked.sum())},
        "coverage": coverage(rows.vectors, is_picked),
        "balance": balance(rows.sides, is_picked),
        "density": {name: round(float(value), 5) for name, value in mean.items()},
        "signals": {"before": means(rows, np.ones(len(is_picked), bool)), "after": means(rows, is_picked)},
    }


def means(rows: Eligible, among: np.ndarray) -> dict[str, float]:
    """Return the mean of each signal over the rows of the mask `among` that have it; one that none has is left out."""
    found = {name: values[among & ~np.isnan(values)] for name, values in rows.signals.items()}
    return {name: round(float(values.mean()), 4) for name, values in found.items() if len(values)}


def weights(values: pa.ChunkedArray) -> dict[str, float]:
    """Return value -> weight, so that each value weighs the same in all and a row 1 on average (King and Zeng, 2001)."""
    counts = {pair["values"]: pair["counts"] for pair in pc.value_counts(values).to_pylist()}
    return {value: len(values) / len(counts) / count for value, count in sorted(counts.items())}
