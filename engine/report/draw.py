"""Axes, ticks and SVG elements.

A chart is as wide as its container: x is in per cent, y in pixels, so text keeps its size on a phone.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

SHAPES = {
    "teacher": "M0,-7L7,0L0,7L-7,0Z",
    "student": "M-6,0a6,6 0 1,0 12,0a6,6 0 1,0 -12,0Z",
    "champion": "M-5.5,-5.5H5.5V5.5H-5.5Z",
    "baseline": "M0,-6.5L6.5,5H-6.5Z",
}


class Axis(NamedTuple):
    """Maps values to positions, 0 to 1 along the axis."""

    place: Callable[[float], float]
    ticks: list[tuple[float, str]]  # value and its label
    title: str = ""


def linear(low: float, high: float, *, title: str = "", n: int = 5, unit: str = "") -> Axis:
    """Return an axis from `low` to `high` with about `n` round ticks."""
    width = (high - low) or 1.0
    return Axis(lambda v: (v - low) / width, [(t, f"{t:,.10g}{unit}") for t in round_ticks(low, high, n)], title)


def logarithmic(low: float, high: float, *, title: str, write: Callable[[float], str]) -> Axis:
    """Return a base-10 logarithmic axis from `low` to `high` (both above 0) with a margin at both ends."""
    a, b = math.log10(low) - 0.12, math.log10(high) + 0.12
    if b - a < 0.6:
        a, b = a - 0.2, b + 0.2
    steps = (1, 2, 5) if b - a < 2.2 else (1, 3) if b - a < 3 else (1,)
    ticks = [m * 10.0**e for e in range(math.floor(a), math.ceil(b) + 1) for m in steps]
    return Axis(lambda v: (math.log10(v) - a) / (b - a), [(t, write(t)) for t in ticks if a <= math.log10(t) <= b], title)


def round_ticks(low: float, high: float, n: int = 5) -> list[float]:
    """Return about `n` values of the form 1, 2 or 5 times a power of ten within [low, high]."""
    if high <= low:
        return [low]
    raw = (high - low) / n
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def percent(share: float) -> str:
    """Return a share as a CSS percentage: 0.4321 -> 43.21%."""
    return f"{share * 100:.2f}%"


def frame(marks: Sequence[Markup], *, x: Axis, y: Axis, height: int, label: str) -> Markup:
    """Return a chart with grid, tick labels and axis titles around `marks`; y grows upwards."""
    row = Markup(
        '<line class="grid" x1="0" x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>'
        '<text class="tick" x="-8" y="{0:.1f}" dy="4" text-anchor="end">{1}</text>'
    )
    column = Markup(
        '<line class="grid" x1="{0}" x2="{0}" y1="0" y2="{1}"/>'
        '<text class="tick" x="{0}" y="{1}" dy="17" text-anchor="middle">{2}</text>'
    )
    grid = [row.format(height * (1 - y.place(value)), text) for value, text in y.ticks]
    grid += [column.format(percent(x.place(value)), height, text) for value, text in x.ticks]
    return Markup(
        '<div class="plot"><div class="ytitle">{y}</div>'
        '<svg role="img" aria-label="{label}" width="100%" height="{height}">{grid}{marks}</svg><div class="xtitle">{x}</div></div>'
    ).format(y=y.title, x=x.title, label=label, height=height, grid=Markup("").join(grid), marks=Markup("").join(marks))


def marker(kind: str, x: float, y: float, *, tone: str, tip: str) -> Markup:
    """Return a marker in the shape of its role; `x` is a share of the width, `y` in pixels."""
    return Markup(
        '<svg x="{}" y="{:.1f}" class="mark" style="overflow:visible"><path class="shape {}" d="{}" data-tip="{}"/></svg>'
    ).format(percent(x), y, tone, SHAPES.get(kind, SHAPES["student"]), tip)


def interval_line(x: tuple[str, str], y: tuple[float, float], *, tone: str) -> Markup:
    """Return the line of an interval between two points; `x` as CSS percentages, `y` in pixels."""
    return Markup('<line class="whisker {}" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(tone, *x, *y)


def path(points: Sequence[tuple[float, float]], *, height: int, tone: str) -> Markup:
    """Return a line through `points` (shares of width and height, from below) whose stroke does not scale."""
    steps = "L".join(f"{x * 1000:.1f},{(1 - y) * 1000:.1f}" for x, y in points)
    return Markup(
        '<svg width="100%" height="{}" viewBox="0 0 1000 1000" preserveAspectRatio="none" style="overflow:visible">'
        '<path class="line {}" d="M{}" vector-effect="non-scaling-stroke"/></svg>'
    ).format(height, tone, steps)


def area(low: Sequence[tuple[float, float]], high: Sequence[tuple[float, float]], *, height: int, tone: str) -> Markup:
    """Return the area between two lines (shares of width and height, from below)."""
    steps = "L".join(f"{x * 1000:.1f},{(1 - y) * 1000:.1f}" for x, y in (*low, *reversed(high)))
    return Markup(
        '<svg width="100%" height="{}" viewBox="0 0 1000 1000" preserveAspectRatio="none" style="overflow:visible">'
        '<path class="band {}" d="M{}Z"/></svg>'
    ).format(height, tone, steps)


def limit_line(y: str, *, height: int) -> Markup:
    """Return a dashed horizontal line across the chart at `y`, a CSS percentage from above."""
    return Markup(
        '<svg width="100%" height="{0}" style="overflow:visible"><line class="limit" x1="0" x2="100%" y1="{1}" y2="{1}"/></svg>'
    ).format(height, y)


def avoid_overlap(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions near `heights` (pixels) at least `gap` apart and within [low, high], in the order of `heights`."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = list(heights)
    floor = low
    for i in order:
        placed[i] = max(placed[i], floor)
        floor = placed[i] + gap
    ceiling = high
    for i in reversed(order):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed
