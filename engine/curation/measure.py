"""How picking changed the distribution: coverage of all rows by the picked ones, and evenness of each stratum."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.curation.select import Eligible, density, landmarks
from engine.records.base import BeforeAfter
from engine.records.dataset import Coverage, Selection

STRATA = ("task_unit", "layer", "difficulty", "cluster")


def coverage(vectors: np.ndarray, is_picked: np.ndarray) -> Coverage | None:
    """Return the mean and the least cosine of landmarks of all rows to the nearest picked row; None if none is picked."""
    if not is_picked.any():
        return None
    marks, picked = vectors[landmarks(len(vectors))], vectors[is_picked]
    nearest = np.full(len(marks), -1, np.float32)
    for start in range(0, len(picked), 4_096):
        nearest = np.maximum(nearest, (marks @ picked[start : start + 4_096].T).max(axis=1))
    return Coverage(mean=round(float(nearest.mean()), 4), least=round(float(nearest.min()), 4))


def evenness(counts: Sequence[int]) -> float | None:
    """Return the entropy of a distribution over its maximum (Pielou, 1966), 0 to 1; None if there is only one value."""
    present = [count for count in counts if count]
    if len(counts) < 2:
        return None
    entropy = -sum(count / sum(present) * math.log(count / sum(present)) for count in present)
    return round(entropy / math.log(len(counts)), 4)


def balance(strata: Mapping[str, Sequence[str]], is_picked: np.ndarray) -> dict[str, BeforeAfter[float | None]]:
    """Return stratum -> the evenness of all rows and of the picked ones, over the values that occur."""
    result = {}
    for stratum, values in strata.items():
        before = Counter(values)
        after = Counter(value for value, stays in zip(values, is_picked.tolist(), strict=True) if stays)
        of_picked = evenness([after[value] for value in before]) if after else None
        result[stratum] = BeforeAfter(before=evenness(list(before.values())), after=of_picked)
    return result


def selection(rows: Eligible, is_picked: np.ndarray) -> Selection:
    """Return coverage, balance, mean information density and mean signals of all rows and of the picked ones."""
    densities = density(rows)
    before = densities.mean() if len(densities) else 0.0
    after = densities[is_picked].mean() if is_picked.any() else 0.0
    return Selection(
        rows=BeforeAfter(before=len(rows.vectors), after=int(is_picked.sum())),
        coverage=coverage(rows.vectors, is_picked),
        balance=balance(rows.strata, is_picked),
        density=BeforeAfter(before=round(float(before), 5), after=round(float(after), 5)),
        signals=BeforeAfter(before=means(rows, np.ones(len(is_picked), bool)), after=means(rows, is_picked)),
    )


def means(rows: Eligible, among: np.ndarray) -> dict[str, float]:
    """Return the mean of each signal over the rows of the mask `among` that have it; without such rows it is left out."""
    present = {name: values[among & ~np.isnan(values)] for name, values in rows.signals.items()}
    return {name: round(float(values.mean()), 4) for name, values in present.items() if len(values)}


def weights(kept: pa.Table, dispositions: pa.Table, stratum: str | None) -> dict[str, float]:
    """Return the `weights_of` the values of `stratum` among the `kept` ENTRY rows; {} without a stratum."""
    if stratum == "cluster":
        return weights_of(dispositions.filter(pc.equal(dispositions["dropped_by"], ""))["cluster"].cast(pa.string()))
    return weights_of(kept[stratum]) if stratum else {}


def weights_of(values: pa.ChunkedArray) -> dict[str, float]:
    """Return value -> weight: the total weight of each value is equal, the mean weight of a row is 1 (King and Zeng, 2001)."""
    counts = {pair["values"]: pair["counts"] for pair in pc.value_counts(values).to_pylist()}
    return {value: len(values) / len(counts) / count for value, count in sorted(counts.items())}
