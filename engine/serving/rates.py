"""Signals over time, each with a confidence sequence: a band that holds the rate at all points together, however often one looks.

The band is that of a share (`engine/stats/eprocess.py`). It holds for the mean of any numbers between 0 and 1, such as a
confidence, too: at every such number a bet pays at most what the chord between its payoffs at 0 and 1 does, so that the wealth of
the bets still never grows on the average (convexity, as in Hoeffding, JASA 58, 1963, section 4). It is then wider than it need be.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from engine.records.watch import RateLine, RatePoint
from engine.rows import Row
from engine.serving.monitor import signals_of
from engine.serving.watch import signals
from engine.serving.watched import fields_of
from engine.stats.eprocess import confidence_sequence

POINTS = 60  # of a line
ERRORS = "errors"


def rates(requests: Iterable[Row], comparisons: Iterable[Row], delta: float) -> tuple[RateLine, ...]:
    """Return a line for each signal of one deployment; both tables are ordered by time.

    `requests`: `time` (s), `status`, `confidence`, `abstained`, `route`, `answer`. `comparisons`: `time`, `agrees` (or None).
    """
    values: dict[str, list[tuple[float, float]]] = {}
    for row in requests:
        found = {ERRORS: float(row["status"] != 200)}
        if row["status"] == 200:
            found |= signals_of(signals(row), longest=1, fields=fields_of(row["answer"]))
        for name, value in found.items():
            values.setdefault(name, []).append((row["time"], value))
    for row in comparisons:
        if row["agrees"] is not None:
            values.setdefault("agreement", []).append((row["time"], float(row["agrees"])))
    return tuple(RateLine(signal=name, points=_points(each, delta)) for name, each in sorted(values.items()))


def _points(values: Sequence[tuple[float, float]], delta: float) -> tuple[RatePoint, ...]:
    ends = np.unique(np.linspace(0, len(values), min(POINTS, len(values)) + 1).round().astype(int))[1:]
    sums, before, found = np.cumsum([value for _, value in values]), 0, list[RatePoint]()
    for end in map(int, ends):
        total = float(sums[end - 1])
        low, high = confidence_sequence(total, end, delta)
        recent = (total - (float(sums[before - 1]) if before else 0.0)) / (end - before)
        point = {"mean": total / end, "low": low, "high": high, "recent": recent}
        found.append(RatePoint(time=values[end - 1][0], rows=end, **{name: round(each, 6) for name, each in point.items()}))
        before = end
    return tuple(found)
