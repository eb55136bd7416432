"""Whether prompts still come from where the baseline's came from: a classifier between both, and bets on its scores.

A sequential two-sample test by betting (Shekhar and Ramdas, IEEE Trans. Inf. Theory 70, 2024; Pandeva et al., 2024; classifier
two-sample test: Lopez-Paz and Oquab, ICLR 2017). Every `every` rows an epoch begins: a logistic model is fitted to tell the rows so
far from one half of the baseline. Its scores of later rows are then a signal like any other (`engine/stats/drift.py`), whose
baseline are its scores of the other half, which no model is ever fitted to. If prompts did not change, scores of both have one
distribution, whatever the model learned, so each epoch is an e-process; epochs share the money (the k-th has 6 / (pi k)^2), so that
together they are one.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.records.monitor import EpochState, MonitorState, SignalState
from engine.serving.signal_test import SignalTest
from engine.stats.clusters import Clusters
from engine.stats.drift import Baseline, ShiftDetector
from engine.stats.intervals import Array

ACTIVE = 3  # epochs that bet at once; an older one keeps what it won
SHIFT = 0.15  # of the mean score that bets are made for
STRENGTH = 1.0  # inverse of the L2 penalty


class Epoch(NamedTuple):
    """One classifier with its bets."""

    weights: Array  # (dimensions + 1,)
    share: float
    test: SignalTest


class DomainTest:
    """Reads embeddings one by one; `e_value` is evidence that they are not those of the baseline."""

    def __init__(
        self, baseline: Array, labels: Sequence[object] | None = None, *, every: int = 200, window: int = 1000, keep: int = 2000
    ) -> None:
        """`baseline`: (rows, dimensions) embeddings of prompts of the holdout; `labels`: their clusters.

        Raises:
            ValueError: the baseline has fewer than 4 rows or clusters.
        """
        clusters = Clusters(range(len(baseline)) if labels is None else labels)
        if clusters.count < 4:
            raise ValueError(f"found {clusters.count} independent rows, expected at least 4: half of them train, half are bet on")
        trains = clusters.index % 2 == 0  # whole clusters
        self.train, self.held = baseline[trains], baseline[~trains]
        self.labels = clusters.index[~trains].tolist()
        self.every, self.keep = every, keep
        self.seen: deque[Array] = deque(maxlen=window)
        self.epochs: list[Epoch] = []
        self.rows = self.num_epochs = 0
        self.closed = 0.0

    @property
    def e_value(self) -> float:
        """e-value against "the prompts are those of the baseline"."""
        unspent = 1 - sum(share(number) for number in range(1, self.num_epochs + 1))
        return unspent + self.closed + sum(epoch.share * epoch.test.e_value for epoch in self.epochs)

    @property
    def test(self) -> SignalTest:
        """The bets of the epoch that won most."""
        return max(self.epochs, key=lambda epoch: epoch.share * epoch.test.e_value).test

    def update(self, row: str, embedding: Array) -> None:
        """Bet on one row, then learn from it."""
        for epoch in self.epochs:
            epoch.test.update(row, float(score(embedding[None, :], epoch.weights)[0]))
        self.seen.append(np.asarray(embedding, dtype=np.float64))
        self.rows += 1
        if self.rows % self.every == 0:
            self._begin()

    def _begin(self) -> None:
        weights = fit(self.train, np.array(self.seen))
        self.num_epochs += 1
        self.epochs.append(Epoch(weights, share(self.num_epochs), self._test(weights, SignalState())))
        if len(self.epochs) > ACTIVE:
            oldest = self.epochs.pop(0)
            self.closed += oldest.share * oldest.test.e_value

    def _test(self, weights: Array, state: SignalState) -> SignalTest:
        baseline = Baseline.of(score(self.held, weights), self.labels)
        return SignalTest(ShiftDetector(baseline, shift=SHIFT, side="above"), state, self.keep)

    def saved(self, state: MonitorState) -> MonitorState:
        """Return `state` with the epochs in it. Embeddings are not kept: the next epoch learns from rows after a restart."""
        epochs = tuple(
            EpochState(weights=tuple(each.weights.tolist()), share=each.share, bets=each.test.state()) for each in self.epochs
        )
        return state.model_copy(update={"epochs": epochs, "closed": self.closed, "num_epochs": self.num_epochs})

    def restore(self, state: MonitorState) -> None:
        """Go on from a state that `saved` returned."""
        self.closed, self.num_epochs = state.closed, state.num_epochs
        for each in state.epochs:
            weights = np.array(each.weights)
            self.epochs.append(Epoch(weights, each.share, self._test(weights, each.bets)))


def share(number: int) -> float:
    """Return the share of the money of the epoch `number`, counted from 1; all of them sum to 1."""
    return 6 / (np.pi * number) ** 2


def fit(baseline: Array, stream: Array) -> Array:
    """Return the weights of a logistic model of "a row is of the stream", (dimensions + 1,), both sides weighing the same."""
    from sklearn.linear_model import LogisticRegression

    rows = np.concatenate([baseline, stream])
    labels = np.repeat([0, 1], [len(baseline), len(stream)])
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=200).fit(rows, labels)
    return np.concatenate([model.coef_[0], model.intercept_])


def score(rows: Array, weights: Array) -> Array:
    """Return the model's probability, (n,), that each of `rows`, (n, dimensions), is of the stream."""
    return 1 / (1 + np.exp(-np.clip(rows @ weights[:-1] + weights[-1], -50, 50)))
