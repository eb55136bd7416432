"""Which parts of the holdout a student has not learnt as well as the rest, and how many prompts each of them should get.

What counts is what more answers of the same teacher can mend: prompts that the student gets wrong and its teacher right. Prompts
that both get wrong are no reason to ask this teacher more. Nothing but the values of a column is read off the holdout: no prompt
is chosen because it resembles one of the holdout.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from engine.contract.iterate import Iterate
from engine.evaluation.decompose import excess_rate
from engine.records.rounds import WeakSlice
from engine.rounds.quotas import divide
from engine.stats.bootstrap import Array

ALL = "all"
"""Dimension of the one slice that stands for the whole holdout."""


class Compared(NamedTuple):
    """A student and its teacher on the n holdout prompts; all sequences are in the same order."""

    columns: Mapping[str, Sequence[str]]
    """Dimension -> value of each prompt."""
    clusters: Sequence[object]
    """(n,) labels; prompts of one label are not independent."""
    right: Array
    """(n,) 1 = the student is right."""
    taught: Array
    """(n,) 1 = the teacher is right; all 1 without a teacher that answers."""
    differs: Array
    """(n,) 1 = student and teacher give different answers."""

    @property
    def mendable(self) -> Array:
        """(n,) 1 = the student is wrong, the teacher right."""
        return (1 - self.right) * self.taught


def weak_slices(compared: Compared, section: Iterate, *, level: float) -> list[WeakSlice]:
    """Return the slices with a larger share of mendable prompts than the rest of the holdout, the largest excess first.

    Where none has, but there are mendable prompts, the whole holdout is the one slice. A slice counts by its point value: its
    interval is recorded, and a slice that only chance made weak costs a round of prompts elsewhere, not a wrong conclusion.
    """
    mendable, found = compared.mendable, []
    for dimension in section.slices:
        labels = np.array([value or "" for value in compared.columns[dimension]], dtype=object)
        for value in sorted(set(labels) - {""}):
            inside = labels == value
            if min(inside.sum(), (~inside).sum()) < section.rows:
                continue
            difference = float(mendable[inside].mean() - mendable[~inside].mean())
            if difference > 0:
                clusters = ["" for _ in inside] if dimension == "scenario" else compared.clusters
                measured = excess_rate(mendable, inside, clusters)
                part = _slice(compared, inside, dimension, value)
                found.append((difference, part.model_copy(update={"excess": measured and measured.interval(level)})))
    if not found and mendable.any():
        return [_slice(compared, np.ones(len(mendable), dtype=bool), ALL, "")]
    return [part for _, part in sorted(found, key=lambda each: -each[0])]


def with_quotas(slices: Sequence[WeakSlice], prompts: int) -> list[WeakSlice]:
    """Return the slices, each with its share of `prompts`, in proportion to the prompts of it that can be mended."""
    shares = divide(prompts, {place: float(part.mendable) for place, part in enumerate(slices)})
    return [part.model_copy(update={"wanted": shares[place]}) for place, part in enumerate(slices)]


def layers_of(part: WeakSlice, compared: Compared) -> dict[str, float]:
    """Return layer -> how many mendable prompts of the slice are of it: which layers are to be written for the slice."""
    if part.dimension == "layer":
        return {part.value: 1.0}
    inside = np.ones(len(compared.right), dtype=bool)
    if part.dimension != ALL:
        inside = np.array([value == part.value for value in compared.columns[part.dimension]])
    weights: dict[str, float] = {}
    for layer, mends, counts in zip(compared.columns["layer"], compared.mendable, inside, strict=True):
        if counts and mends and layer:
            weights[layer] = weights.get(layer, 0.0) + 1
    return weights


def _slice(compared: Compared, inside: Array, dimension: str, value: str) -> WeakSlice:
    wrong = 1 - compared.right
    sums = [int(column[inside].sum()) for column in (wrong, compared.differs, compared.mendable)]
    return WeakSlice(dimension=dimension, value=value, n=int(inside.sum()), errors=sums[0], disagreements=sums[1], mendable=sums[2])
