"""One evaluated model with its graded answers, and what several modules read from it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.evaluation.evaluator import EvalTarget, Evaluated
from engine.stats.bootstrap import Array
from engine.stats.clusters import Clusters


class EvalResult(NamedTuple):
    """One evaluated model with its PREDICTION rows, which are in the holdout's order for every model."""

    target: EvalTarget
    evaluated: Evaluated
    predictions: pa.Table

    @property
    def name(self) -> str:
        return self.target.name

    @property
    def right(self) -> Array:
        """(n,) 1 where the answer equals the reference, else 0."""
        return np.array(self.predictions["exact"].to_pylist(), dtype=np.float64)


def best_teacher(results: Sequence[EvalResult]) -> EvalResult | None:
    """Return the teacher with the highest exact match, the first of equals. Students are compared with this one."""
    teachers = [result for result in results if result.target.role == "teacher"]
    return max(teachers, key=lambda result: float(result.right.sum()), default=None)


def unseen_rows(predictions: pa.Table) -> Array:
    """Return the mask (n,) of rows whose scenario never occurs in training."""
    return ~np.array(predictions["seen"].to_pylist(), dtype=bool)


def clusters_of(predictions: pa.Table, labels: Sequence[object] | None = None) -> Clusters:
    """Return the clusters of PREDICTION rows: those of `labels`, one a row, or their scenarios."""
    return Clusters(predictions["scenario"].to_pylist() if labels is None else labels)
