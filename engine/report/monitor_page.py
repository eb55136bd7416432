"""The page of `rayleigh watch`: one self-contained HTML file without scripts, in the look of the report."""

import time
from collections.abc import Sequence

from markupsafe import Markup

from engine.records.watch import MonitorView, RateLine, WatchHistory, WatchView
from engine.report import labels
from engine.report.draw import Axis, area, frame, limit_line, linear, path, percent
from engine.report.environment import environment

HEIGHT, MARGIN, SHORT = 190, 0.02, 12
MEANINGS = {
    "abstention": "share of answers that were an abstention",
    "agreement": "share of answers that the teacher gives, too",
    "confidence": "mean probability of the student's whole answer",
    "errors": "share of requests with another status than 200",
    "fallback": "share of requests that were handed on",
}


def monitor_page(view: WatchView, history: WatchHistory) -> str:
    """Return the page as HTML; text of models is escaped everywhere. Charts are of the deployment that answered last."""
    made = environment()
    made.filters.update(
        number=labels.number, interval=labels.with_interval, count=labels.count, clock=_clock, short=_short, shares=_shares
    )
    monitor = view.monitors[0] if view.monitors else None
    values = {
        "view": view,
        "history": history,
        "monitor": monitor,
        "headline": _headline(monitor),
        "charts": [(line.signal, meaning(line.signal), chart(line, monitor)) for line in _ordered(history.lines, monitor)],
    }
    return made.get_template("monitor.html").render(values)


def chart(line: RateLine, monitor: MonitorView | None) -> Markup:
    """Return the chart of a signal: its mean since the first request with its band, that of the last requests, the baseline."""
    points = line.points
    baseline = monitor.signals[line.signal].baseline if monitor and line.signal in monitor.signals else None
    heights = [*(point.low for point in points), *(point.high for point in points), *(point.recent for point in points)]
    heights += [] if baseline is None else [baseline]
    y = linear(max(0.0, min(heights) - MARGIN), min(1.0, max(heights) + MARGIN), n=4)
    x = _times(points[0].time, points[-1].time)
    at = [x.place(point.time) for point in points]
    marks = [
        area(
            [(left, y.place(point.low)) for left, point in zip(at, points, strict=True)],
            [(left, y.place(point.high)) for left, point in zip(at, points, strict=True)],
            height=HEIGHT,
            tone="student-0",
        ),
        path([(left, y.place(point.mean)) for left, point in zip(at, points, strict=True)], height=HEIGHT, tone="student-0 thick"),
        path([(left, y.place(point.recent)) for left, point in zip(at, points, strict=True)], height=HEIGHT, tone="tone-ink thin"),
    ]
    if baseline is not None:
        marks.append(limit_line(percent(1 - y.place(baseline)), height=HEIGHT))
    return frame(marks, x=x, y=y, height=HEIGHT, label=f"{line.signal} over time")


def meaning(signal: str) -> str:
    """Return what a signal counts."""
    name, _, field = signal.partition(".")
    return f"share of answers whose {field} is null" if field else MEANINGS.get(name, name)


def _ordered(lines: Sequence[RateLine], monitor: MonitorView | None) -> list[RateLine]:
    """Return those with an alarm first."""
    alarmed = {alarm.signal for alarm in monitor.alarms} if monitor else set()
    return sorted(lines, key=lambda line: line.signal not in alarmed)


def _times(first: float, last: float) -> Axis:
    """Return an axis of UTC times with three ticks: the ends and the middle."""
    width = last - first
    form = "%H:%M:%S" if width < 3600 else "%m-%d %H:%M"
    if not width:
        return Axis(lambda value: 0.5, [(first, time.strftime(form, time.gmtime(first)))], "UTC")
    ticks = [(value, time.strftime(form, time.gmtime(value))) for value in (first + width / 8, first + width / 2, last - width / 8)]
    return Axis(lambda value: (value - first) / width, ticks, "UTC")


def _headline(monitor: MonitorView | None) -> tuple[str, str]:
    """Return the class and the text of the headline."""
    if monitor is None:
        return "undecided", "No request was answered yet"
    if not monitor.source:
        return "undecided", f"The baseline is being gathered: {monitor.gathered} requests so far"
    if not monitor.alarms:
        return "pass", "No change is proven"
    names = ", ".join(alarm.signal for alarm in monitor.alarms)
    return "refuse", f"{len(monitor.alarms)} {'alarm' if len(monitor.alarms) == 1 else 'alarms'}: {names}"


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def _short(text: str) -> str:
    return text[:SHORT]


def _shares(counts: dict[str, int]) -> list[tuple[str, int, float]]:
    total = max(1, sum(counts.values()))
    return [(name, count, count / total) for name, count in sorted(counts.items(), key=lambda each: -each[1])]
