"""Splits the holdout into a part that everyone is measured on, and a part that stays closed until a student has been chosen.

Choosing the best of several students flatters it (the winner's curse); on rows that took no part in the choice it is measured as if
it had been the only one. Whole clusters go to one part, so that the closed part is independent of the open one. The split depends
on the labels of the clusters alone: it is the same in every run on this holdout.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from engine.evaluation.result import EvalResult
from engine.rows import content_id
from engine.stats.bootstrap import Array


def closed_rows(labels: Sequence[object], share: float) -> Array:
    """Return the mask (n,) of the rows of the closed part, which has about `share` of the clusters.

    Row i is of cluster `labels[i]`; a row that is a cluster by itself has a label of its own, such as its id.
    """
    ranked = sorted(set(map(str, labels)), key=lambda label: content_id("confirm", label))
    closed = set(ranked[: max(1, round(share * len(ranked)))])
    return np.array([str(label) in closed for label in labels])


def part(results: Sequence[EvalResult], mask: Array) -> list[EvalResult]:
    """Return the results on the rows of the mask (n,) alone; sizes, latency and speed are those of the whole."""
    return [result._replace(predictions=result.predictions.filter(pa.array(mask))) for result in results]


def digest(ids: Sequence[str]) -> str:
    """Return the identity of a closed part: a hash of its prompts' ids, in any order."""
    return content_id(*sorted(ids))
