"""Watches a deployment: one test for each signal, and one false-alarm rate over the whole life of the stream for all together.

Each signal is a number between 0 and 1 of a row, with a baseline measured on the holdout (`engine/stats/drift.py`), and has an
e-process. Their weighted mean is one, too, whatever the dependence between signals: it reaches 1 / delta with probability delta at
most if nothing changed. A signal whose weighted e-value alone reaches 1 / delta is named as changed (Bonferroni in e-values: the
probability of naming any signal that did not change is at most delta). An alarm is raised once for each signal; afterwards certify
again, and start a new monitor.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from engine.contract.serving import Monitor as Section
from engine.records.monitor import Alarm, MonitorState, SignalState
from engine.serving.domain import DomainTest
from engine.serving.signal_test import SignalTest
from engine.stats.drift import Baseline, ShiftDetector, Side
from engine.stats.intervals import Array

EMBEDDING = "embedding"
KEYS = {"agreement": "agrees", "confidence": "confidence", "abstention": "abstained", "fallback": "fell_back"}
"""Signal -> the key of a served answer that it reads."""


class Observation(NamedTuple):
    """One served request."""

    id: str
    values: Mapping[str, float]
    """Signal -> its number, 0 to 1; a signal that this row does not have is left out."""
    embedding: Array | None = None
    """(dimensions,) of its prompt."""


class Monitor:
    """Reads rows one by one and returns alarms; `state()` can be kept as JSON."""

    def __init__(
        self,
        section: Section,
        baselines: Mapping[str, Baseline],
        domain: DomainTest | None = None,
        state: MonitorState | None = None,
    ) -> None:
        """`baselines`: signal -> what is known of it, all of those that are tested; `domain`: the test of embeddings."""
        self.section, self.domain, old = section, domain, state or MonitorState()
        self.rows, self.alarms, self.bound = old.rows, list(old.alarms), (old.deployment, old.baseline)
        self.signals = {
            name: SignalTest(
                ShiftDetector(baseline, shift=section.shift, side=side_of(name)),
                old.signals.get(name, SignalState()),
                section.keep,
            )
            for name, baseline in baselines.items()
        }
        if domain and old.num_epochs:
            domain.restore(old)

    @property
    def weight(self) -> float:
        """Share of each signal in the mean of e-values."""
        return 1 / max(1, len(self.signals) + (self.domain is not None))

    @property
    def e_value(self) -> float:
        """e-value against "nothing changed"."""
        return self.weight * sum(self._e_values().values())

    def observe(self, row: Observation) -> list[Alarm]:
        """Read one row and return the alarms that it raises, if any."""
        self.rows += 1
        for name, value in row.values.items():
            if name in self.signals:
                self.signals[name].update(row.id, value)
        if self.domain and row.embedding is not None:
            self.domain.update(row.id, row.embedding)
        raised = list(self._raised())
        self.alarms += raised
        return raised

    def state(self) -> MonitorState:
        """Return what a `Monitor` goes on from."""
        signals = {name: test.state() for name, test in self.signals.items()}
        state = MonitorState(
            deployment=self.bound[0], baseline=self.bound[1], rows=self.rows, signals=signals, alarms=tuple(self.alarms)
        )
        return self.domain.saved(state) if self.domain else state

    def _e_values(self) -> dict[str, float]:
        values = {name: test.e_value for name, test in self.signals.items()}
        return values | ({EMBEDDING: self.domain.e_value} if self.domain else {})

    def _raised(self) -> Iterator[Alarm]:
        values, limit = self._e_values(), 1 / self.section.delta
        known = {alarm.signal for alarm in self.alarms}
        named = [name for name, value in values.items() if self.weight * value >= limit and name not in known]
        for name in named:
            yield self._alarm(name, values[name], named=True)
        if not named and not self.alarms and self.weight * sum(values.values()) >= limit:
            most = max(values, key=lambda name: values[name])
            yield self._alarm(most, values[most], named=False)

    def _alarm(self, name: str, value: float, *, named: bool) -> Alarm:
        test = self.domain.test if name == EMBEDDING and self.domain else self.signals[name]
        test.alarmed = True
        rows = test.changed_rows
        before, now = test.detector.baseline.mean, float(np.mean([value for _, value in rows])) if rows else float("nan")
        which = "is proven to have changed" if named else "changed most; all signals together are proven to have changed"
        return Alarm(
            signal=name,
            at=self.rows,
            e_value=self.weight * value,
            named=named,
            direction=int(test.detector.direction(test.shift)),
            baseline=round(before, 6),
            mean=round(now, 6),
            rows=tuple(row for row, _ in rows),
            sentence=f"{name} {which}: {now:.3f} in the last {len(rows)} rows, {before:.3f} in the baseline",
        )


def side_of(signal: str) -> Side:
    """Return which changes of a signal count: agreement can only be lost, all others may rise or fall."""
    return "below" if signal == "agreement" else "both"


def signals_of(row: Mapping[str, object], *, longest: int, fields: Mapping[str, object] | None = None) -> dict[str, float]:
    """Return the numbers of one served answer; what the row lacks (None or no key) is left out.

    `row`: `confidence`; `abstained` and `fell_back` and `agrees` (bool); `text`, the answer's. `fields`: the fields of the answer,
    each of which is a signal: 1 = null. `longest`: characters of the longest answer of the baseline; half as much again is 1.
    """
    values = {}
    for name, key in (
        ("agreement", "agrees"),
        ("confidence", "confidence"),
        ("abstention", "abstained"),
        ("fallback", "fell_back"),
    ):
        if (value := row.get(key)) is not None:
            values[name] = float(value)  # pyright: ignore[reportArgumentType]
    if isinstance(text := row.get("text"), str):
        values["length"] = min(1.0, len(text) / (1.5 * max(1, longest)))
    return values | {f"nulls.{name}": float(value is None) for name, value in (fields or {}).items()}
