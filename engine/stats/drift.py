"""Whether the mean of a stream of numbers between 0 and 1 has left a baseline, with one false-alarm rate over its whole life.

Betting (Shekhar and Ramdas, "Reducing sequential change detection to sequential estimation", 2023; Waudby-Smith and Ramdas, JRSS B
86, 2024; e-detectors: Shin, Ramdas and Rinaldo, 2024). Against "the mean is m" a bet b pays 1 + b (x - m) on each number x: wealth
whose expectation does not grow while the hypothesis is true. A change may come at any time, so bets begin at every row j with a
share w_j of the money, and the shares sum to 1: the whole is one e-process, and the probability that it ever reaches 1 / delta is
at most delta (Ville, 1939). A chart with a stated average run length, in contrast, is certain to alarm one day. The recursion needs
one number for each bet: W <- (W + w_j) (1 + b (x - m)).

The baseline is estimated. Its mean m is not known, so "the stream has the mean of the baseline" is rejected if it is for every m:
for each m the stream's e-value is multiplied with one of the baseline against m, p(m)^(-1/2) / 2 (a calibrator of p-values: Vovk
and Wang, Annals of Statistics 49, 2021), and the least product counts. Both are independent, so the product is an e-process over
the draw of baseline and stream. An m far from the baseline's mean is disproved by the baseline, one near it by the stream; a large
baseline costs a factor of 2. Values of m form cells; a bet upwards is settled against the upper end of a cell, one downwards
against its lower end, so that nothing is lost between them. p(m) is that of Student's test over clusters with one row of 0 and one
of 1 added (in the manner of Agresti and Coull, 1998): approximate, and usable where all rows are 0.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from engine.stats.clusters import Clusters
from engine.stats.intervals import Array

Side = Literal["below", "above", "both"]
CELLS, REACH = 48, 6.0  # cells of m within this many standard errors of the baseline's mean
SIZES = (0.5, 1.0, 2.0)  # shifts that bets are made for, as multiples of the one looked for
MOST = 0.9  # of the largest bet that cannot lose everything
AT_START = 0.5  # share of the money that is bet from the first row on
SPREAD = 100.0  # rows over which much of the rest is handed out
CEILING = 1e100  # of a wealth: more is not needed, and cannot be counted


class Baseline(NamedTuple):
    """What is known of the mean before the stream."""

    low: Array  # (cells,) lower ends of the cells of the mean
    high: Array  # (cells,)
    log_e: Array  # (cells,) log e-value of the baseline against means of the cell
    mean: float
    variance: float  # of one row
    rows: int

    @classmethod
    def known(cls, mean: float, variance: float | None = None) -> "Baseline":
        """Return the baseline whose mean is known; `variance`: that of a rate by default."""
        at = np.array([mean])
        return cls(at, at, np.zeros(1), mean, mean * (1 - mean) if variance is None else variance, 0)

    @classmethod
    def of(cls, values: Array, labels: Sequence[object] | None = None) -> "Baseline":
        """Return the baseline of `values`, (n,) between 0 and 1, n > 0; rows of equal `labels` depend on each other."""
        from scipy.stats import t

        padded = np.concatenate([values, [0.0, 1.0]])
        clusters = Clusters([*(range(len(values)) if labels is None else labels), None, None])
        mean, rows = float(padded.mean()), len(padded)
        sums = clusters.sums(padded - mean)
        freedom = max(1, clusters.count - 1)
        error = float(np.sqrt((sums**2).sum() * clusters.count / freedom)) / rows
        ends = np.clip(mean + error * np.linspace(-REACH, REACH, CELLS + 1), 0, 1)
        low, high = np.concatenate([[0.0], ends]), np.concatenate([ends, [1.0]])
        distance = np.maximum(0, np.maximum(low - mean, mean - high)) / error
        log_p = np.minimum(0, np.log(2) + t.logsf(distance, freedom))
        variance = max(float(values.var()), 1 / rows)
        return cls(low, high, -log_p / 2 - np.log(2), mean, variance, len(values))


class Shift(NamedTuple):
    """State of a detector. Leading axes (...) are independent streams."""

    rows: int
    wealth: Array  # (..., cells, bets) of the money that was bet so far
    since: Array  # (..., bets) row at which the run of gains of a bet began
    gains: Array  # (..., bets) log of its gains since then


class ShiftDetector:
    """Bets on shifts of the mean away from a baseline."""

    def __init__(self, baseline: Baseline, *, shift: float = 0.1, side: Side = "both") -> None:
        """`shift`: the size of the change that is looked for; others are found, too."""
        self.baseline = baseline
        sizes = shift * np.array(SIZES)
        bets = sizes / (baseline.variance + sizes**2)
        signs = {"below": [-1.0], "above": [1.0], "both": [-1.0, 1.0]}[side]
        self.signs = np.repeat(signs, len(bets))
        wanted = np.tile(bets, len(signs))
        self.ends = np.where(self.signs > 0, baseline.high[:, None], baseline.low[:, None])  # (cells, bets)
        largest = MOST / np.maximum(np.where(self.signs > 0, self.ends, 1 - self.ends), 1e-9)
        self.bets = self.signs * np.minimum(wanted, largest)
        middle = np.where(self.signs > 0, baseline.mean, 1 - baseline.mean)
        self.middle = self.signs * np.minimum(wanted, MOST / np.maximum(middle, 1e-9))

    def start(self, *streams: int) -> Shift:
        """Return the state before the first row of `streams`."""
        shape = (*streams, *self.bets.shape)
        flat = (*streams, self.bets.shape[1])
        return Shift(0, np.zeros(shape), np.zeros(flat, dtype=np.int64), np.zeros(flat))

    def update(self, state: Shift, value: Array | float) -> Shift:
        """Return the state after one more row of each stream, (...), between 0 and 1."""
        number = np.asarray(value, dtype=np.float64)[..., None]
        payoff = 1 + self.bets * (number[..., None] - self.ends)
        wealth = np.minimum((state.wealth + money(state.rows) - money(state.rows + 1)) * payoff, CEILING)
        gains = state.gains + np.log1p(self.middle * (number - self.baseline.mean))
        since = np.where(gains <= 0, state.rows + 1, state.since)
        return Shift(state.rows + 1, wealth, since, np.maximum(gains, 0))

    def log_e(self, state: Shift) -> Array:
        """Return the log e-value, (...), against "the mean is the baseline's"."""
        stream = np.log(state.wealth.mean(axis=-1) + money(state.rows))
        return (stream + self.baseline.log_e).min(axis=-1)

    def changed_at(self, state: Shift) -> Array:
        """Return the row, counted from 0, at which the change probably began, (...): where the best bet began to gain."""
        best = state.gains.argmax(axis=-1)[..., None]
        return np.take_along_axis(state.since, best, axis=-1)[..., 0]

    def direction(self, state: Shift) -> Array:
        """Return the sign of the change, (...)."""
        return self.signs[state.gains.argmax(axis=-1)]


def money(rows: int) -> float:
    """Return the share of the money that is not yet bet after `rows` rows: all of it before the first."""
    return 1.0 if rows == 0 else (1 - AT_START) * float((1 + (rows - 1) / SPREAD) ** -0.5)
