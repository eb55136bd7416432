"""The monitor against tests that know more, and against tests of every window: false alarms over a stream, and delay.

Streams of 0 and 1, such as agreement with a teacher, whose rate falls by a shift at a row. An alarm before the change is false.

    betting, rate known       the monitor's test, told the rate before the change
    betting, 700 rows         the same, with a baseline of 700 rows, each stream with its own
    SPRT                      Wald's test: told both rates and the row of the change
    CUSUM                     Page's test: told both rates, and made so that it errs in a share delta of null streams of this length
    KS per window             two-sample Kolmogorov-Smirnov at 5 % of each 100 rows against a baseline of 700
    Evidently                 its preset for drift on the same windows
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from engine.records.base import Record
from engine.stats.drift import Baseline, ShiftDetector
from engine.stats.intervals import Array
from jobs.bench import serving
from jobs.terminal.console import columns

RATE, DELTA, KNOWN_ROWS, WINDOW = 0.85, 0.05, 700, 100
GROUPS = 50  # baselines of a set of streams


class Delay(Record):
    """One test on the streams of one shift."""

    way: str
    shift: float
    at: int
    """Row of the change; streams without one: their length."""
    false: float
    """Share of streams that alarm before the change."""
    found: float
    """Share of streams that alarm after it."""
    delay: float | None
    """Mean rows from the change to the alarm, of those found."""
    ratio: float | None
    """That over the SPRT's."""
    streams: int


class MonitorBench(Record):
    """The result."""

    rows: int
    delays: tuple[Delay, ...]


class Plan(NamedTuple):
    """How much is measured."""

    streams: int = 1000
    rows: int = 2000
    shifts: tuple[float, ...] = (0.05, 0.1, 0.2)
    peer_streams: int = 20


def bench(python: str, plan: Plan) -> MonitorBench:
    """Return the measurements; `python`: the interpreter that may have Evidently."""
    has_evidently = "evidently" in serving.installed(python)
    delays = list(_delays(plan, 0.0, plan.rows, python if has_evidently else None))
    for shift in plan.shifts:
        for at in (0, plan.rows // 4):
            delays += _delays(plan, shift, at, python if has_evidently else None)
    return MonitorBench(rows=plan.rows, delays=tuple(delays))


def as_text(result: MonitorBench) -> str:
    """Return the table."""
    head = ["way", "shift", "at row", "false alarms", "found", "delay", "times the SPRT's", "streams"]
    rows = [
        [each.way, each.shift, each.at, each.false, each.found if each.shift else None, each.delay, each.ratio, each.streams]
        for each in result.delays
    ]
    return f"streams of {result.rows} rows, rate {RATE:g} before the change, delta {DELTA:g}\n{columns(rows, head=head)}"


def _delays(plan: Plan, shift: float, at: int, python: str | None) -> Iterator[Delay]:
    draw = np.random.default_rng(round(1000 * shift) + at)
    streams = _streams(draw, plan.streams, plan.rows, shift, at)
    alarms: dict[str, Array] = {
        "betting, rate known": _betting(streams, Baseline.known(RATE)),
        "betting, 700 rows": _estimated(draw, streams),
    }
    wald: Array | None = None
    if shift:
        ratios = _log_ratio(streams, shift)
        wald = alarms["SPRT"] = _sprt(ratios, at)
        null = _log_ratio(_streams(draw, plan.streams, plan.rows, 0.0, plan.rows), shift)
        alarms["CUSUM"] = _first(_cusum(ratios) >= np.quantile(_cusum(null).max(axis=1), 1 - DELTA))
    baseline = (draw.random(KNOWN_ROWS) < RATE).astype(float)
    alarms["KS per window"] = _windows(streams[: plan.streams // 10], lambda window: _ks(window, baseline))
    if not shift:  # numbers without ties, of which the test is not conservative
        known, numbers = draw.random(KNOWN_ROWS), draw.random((plan.streams // 10, plan.rows))
        alarms["KS per window, of numbers"] = _windows(numbers, lambda window: _ks(window, known))
    if python:
        part = streams[: plan.peer_streams].astype(int).tolist()
        given = {"baseline": baseline.astype(int).tolist(), "window": WINDOW, "streams": part}
        windows = np.array(serving.ask(python, "evidently", given))
        alarms["Evidently"] = np.where(windows >= 0, (windows + 1) * WINDOW - 1, -1)
    oracle = None if wald is None else float((wald[wald >= at] - at + 1).mean())
    for way, rows in alarms.items():
        found = rows >= at
        delay = float((rows[found] - at + 1).mean()) if shift and found.any() else None
        yield Delay(
            way=way, shift=shift, at=at, false=float(((rows >= 0) & ~found).mean()), found=float(found.mean()), delay=delay,
            ratio=delay / oracle if delay and oracle else None, streams=len(rows),
        )  # fmt: skip


def _streams(draw: np.random.Generator, count: int, rows: int, shift: float, at: int) -> Array:
    return (draw.random((count, rows)) < np.where(np.arange(rows) < at, RATE, RATE - shift)).astype(float)


def _betting(streams: Array, baseline: Baseline) -> Array:
    """Return the row of each stream's alarm, -1 = none."""
    detector = ShiftDetector(baseline, side="below")
    state, found = detector.start(len(streams)), np.full(len(streams), -1)
    for row in range(streams.shape[1]):
        state = detector.update(state, streams[:, row])
        found = np.where((found < 0) & (detector.log_e(state) >= -np.log(DELTA)), row, found)
    return found


def _estimated(draw: np.random.Generator, streams: Array) -> Array:
    parts = np.array_split(streams, min(GROUPS, len(streams)))
    return np.concatenate([_betting(part, Baseline.of((draw.random(KNOWN_ROWS) < RATE).astype(float))) for part in parts])


def _log_ratio(streams: Array, shift: float) -> Array:
    low = RATE - shift
    return np.where(streams > 0, np.log(low / RATE), np.log((1 - low) / (1 - RATE)))


def _sprt(ratios: Array, at: int) -> Array:
    found = _first(ratios[:, at:].cumsum(axis=1) >= -np.log(DELTA))
    return np.where(found >= 0, found + at, -1)


def _cusum(ratios: Array) -> Array:
    sums = ratios.cumsum(axis=1)
    lowest = np.minimum.accumulate(np.concatenate([np.zeros((len(sums), 1)), sums[:, :-1]], axis=1), axis=1)
    return sums - lowest


def _first(crossed: Array) -> Array:
    return np.where(crossed.any(axis=1), crossed.argmax(axis=1), -1)


def _windows(streams: Array, alarms: Callable[[Array], bool]) -> Array:
    """Return the last row of each stream's first window that alarms, -1 = none."""
    starts = range(0, streams.shape[1] - WINDOW + 1, WINDOW)
    found = [next((start + WINDOW - 1 for start in starts if alarms(stream[start : start + WINDOW])), -1) for stream in streams]
    return np.array(found)


def _ks(window: Array, baseline: Array) -> bool:
    from scipy.stats import ks_2samp

    return bool(ks_2samp(baseline, window).pvalue < 0.05)
