"""How picking changed the distribution: coverage of all rows by the picked ones, and evenness of each stratum.

Each shard of the rows is measured by itself; the measures of shards are a few kilobytes each, and are added.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.curation.select import Eligible, Strings, density
from engine.records.base import BeforeAfter
from engine.records.dataset import Coverage, Selection, TopicCluster

STRATA = ("task_unit", "layer", "difficulty", "cluster")


class Mean(NamedTuple):
    """A mean that means of other rows are added to."""

    total: float = 0.0
    rows: int = 0

    @classmethod
    def of(cls, values: np.ndarray) -> "Mean":
        """Return the mean of the `values` that are numbers."""
        values = values[~np.isnan(values)]
        return cls(float(values.mean()) * len(values), len(values)) if len(values) else cls()

    @classmethod
    def over(cls, means: Iterable["Mean"]) -> "Mean":
        """Return the mean over the rows of all `means`."""
        every = list(means)
        return cls(sum(mean.total for mean in every), sum(mean.rows for mean in every))

    @property
    def value(self) -> float:
        """The mean, 0 without rows."""
        return self.total / self.rows if self.rows else 0.0


class Group(NamedTuple):
    """Some rows: all or the picked ones of a shard, or those of a topic cluster in a shard."""

    rows: int
    picked: int
    signals: dict[str, Mean]


class Measures(NamedTuple):
    """The measures of a shard."""

    before: Group
    after: Group
    clusters: dict[int, Group]
    values: dict[str, tuple[Counter[str], Counter[str]]]  # stratum -> rows of each value, before and after
    density: tuple[Mean, Mean]  # before and after
    nearest: np.ndarray  # cosine of each landmark to the nearest picked row; -1 if none is picked


def measured(rows: Eligible, is_picked: np.ndarray, mean: np.ndarray, marks: np.ndarray) -> Measures:
    """Return the measures of a shard; `mean` and `marks` are the mean vector and the landmarks (`select`) of all rows."""
    assert isinstance(rows.vectors, np.ndarray), "a shard is one array"
    everything, densities = np.ones(len(is_picked), bool), density(rows, mean)
    return Measures(
        _group(rows, everything, is_picked),
        _group(rows, is_picked, is_picked),
        {number: _group(rows, rows.cluster == number, is_picked) for number in np.unique(rows.cluster).tolist()},
        {stratum: _values(rows.strata[stratum], is_picked) for stratum in STRATA},
        (Mean.of(densities), Mean.of(densities[is_picked])),
        nearest_pick(marks, rows.vectors[is_picked]),
    )


def nearest_pick(marks: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """Return the cosine of each of `marks` to the nearest of the `picked` vectors; -1 without any."""
    nearest = np.full(len(marks), -1, np.float32)
    for start in range(0, len(picked), 4_096):
        nearest = np.maximum(nearest, (marks @ picked[start : start + 4_096].T).max(axis=1))
    return nearest


def evenness(counts: Sequence[int]) -> float | None:
    """Return the entropy of a distribution over its maximum (Pielou, 1966), 0 to 1; None if there is only one value."""
    present = [count for count in counts if count]
    if len(counts) < 2:
        return None
    entropy = -sum(count / sum(present) * math.log(count / sum(present)) for count in present)
    return round(entropy / math.log(len(counts)), 4)


def balance(shards: Sequence[Measures]) -> dict[str, BeforeAfter[float | None]]:
    """Return stratum -> the evenness of all rows and of the picked ones, over the values that occur."""
    result = {}
    for stratum in STRATA:
        before, after = (sum((shard.values[stratum][at] for shard in shards), Counter[str]()) for at in (0, 1))
        of_picked = evenness([after[value] for value in before]) if after else None
        result[stratum] = BeforeAfter(before=evenness(list(before.values())), after=of_picked)
    return result


def selection(shards: Sequence[Measures]) -> Selection:
    """Return coverage, balance, mean information density and mean signals of all rows and of the picked ones."""
    groups = [shard.before for shard in shards], [shard.after for shard in shards]
    picked = sum(group.rows for group in groups[1])
    before, after = (Mean.over(shard.density[at] for shard in shards).value for at in (0, 1))
    nearest = np.max([shard.nearest for shard in shards], axis=0)
    coverage = Coverage(mean=round(float(nearest.mean()), 4), least=round(float(nearest.min()), 4)) if picked else None
    return Selection(
        rows=BeforeAfter(before=sum(group.rows for group in groups[0]), after=picked),
        coverage=coverage,
        balance=balance(shards),
        density=BeforeAfter(before=round(before, 5), after=round(after, 5)),
        signals=BeforeAfter(before=means(groups[0]), after=means(groups[1])),
    )


def clusters(shards: Sequence[Measures], labels: Mapping[int, str]) -> tuple[TopicCluster, ...]:
    """Return the topic clusters, by number; `labels` are their typical words."""
    groups: dict[int, list[Group]] = {}
    for shard in shards:
        for number, group in shard.clusters.items():
            groups.setdefault(number, []).append(group)
    return tuple(
        TopicCluster(
            cluster=number,
            rows=sum(group.rows for group in of_cluster),
            picked=sum(group.picked for group in of_cluster),
            label=labels.get(number, ""),
            signals=means(of_cluster),
        )
        for number, of_cluster in sorted(groups.items())
    )


def means(groups: Sequence[Group]) -> dict[str, float]:
    """Return the mean of each signal over the rows that have it; without such rows it is left out."""
    names = dict.fromkeys(name for group in groups for name in group.signals)
    found = {name: Mean.over(group.signals[name] for group in groups) for name in names}
    return {name: round(mean.value, 4) for name, mean in found.items() if mean.rows}


def values_of(kept: pa.Table, dispositions: pa.Table, stratum: str | None) -> Counter[str]:
    """Return how many of the `kept` ENTRY rows have each value of `stratum`; nothing without a stratum."""
    if stratum is None:
        return Counter()
    values = kept[stratum] if stratum != "cluster" else dispositions.filter(pc.equal(dispositions["dropped_by"], ""))["cluster"]
    return Counter({pair["values"]: pair["counts"] for pair in pc.value_counts(values.cast(pa.string())).to_pylist()})


def weights_of(counts: Mapping[str, int]) -> dict[str, float]:
    """Return value -> weight: the total weight of each value is equal, the mean weight of a row is 1 (King and Zeng, 2001)."""
    rows = sum(counts.values())
    return {value: rows / len(counts) / count for value, count in sorted(counts.items())}


def _group(rows: Eligible, among: np.ndarray, is_picked: np.ndarray) -> Group:
    signals = {name: Mean.of(values[among]) for name, values in rows.signals.items()}
    return Group(int(among.sum()), int((among & is_picked).sum()), signals)


def _values(values: Strings, is_picked: np.ndarray) -> tuple[Counter[str], Counter[str]]:
    every = [str(value) for value in values]
    return Counter(every), Counter(value for value, stays in zip(every, is_picked.tolist(), strict=True) if stays)
