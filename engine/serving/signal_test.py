"""The bets on one signal of a stream, with the last rows that it read, so that an alarm can name them."""

from collections import deque

import numpy as np

from engine.records.monitor import SignalState
from engine.stats.drift import Shift, ShiftDetector

LARGEST = 700.0  # log of the largest e-value


class SignalTest:
    """The bets on one signal, and the last rows that it read."""

    def __init__(self, detector: ShiftDetector, state: SignalState, keep: int) -> None:
        self.detector, self.alarmed = detector, state.alarmed
        self.recent: deque[tuple[str, float]] = deque(state.recent, maxlen=keep)
        self.shift = detector.start()
        if state.wealth:
            self.shift = Shift(state.rows, np.array(state.wealth), np.array(state.since), np.array(state.gains))

    def update(self, row: str, value: float) -> None:
        """Bet on one more row."""
        self.recent.append((row, float(value)))
        self.shift = self.detector.update(self.shift, min(1.0, max(0.0, value)))

    @property
    def e_value(self) -> float:
        return float(np.exp(min(LARGEST, float(self.detector.log_e(self.shift)))))

    @property
    def changed_rows(self) -> list[tuple[str, float]]:
        """Ids and values of the kept rows since the estimated change."""
        count = self.shift.rows - int(self.detector.changed_at(self.shift))
        return list(self.recent)[-count:] if count else []

    def state(self) -> SignalState:
        """Return what `SignalTest` goes on from."""
        shift = self.shift
        return SignalState(
            rows=shift.rows,
            wealth=tuple(map(tuple, shift.wealth.tolist())),
            since=tuple(shift.since.tolist()),
            gains=tuple(shift.gains.tolist()),
            recent=tuple(self.recent),
            alarmed=self.alarmed,
        )
