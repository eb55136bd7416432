"""Charts: functions from typed values to SVG, independent of the page."""

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

from engine.records.estimate import Estimate, ReliabilityBin
from engine.records.report import ModelEntry
from engine.report.draw import Axis, avoid_overlap, frame, interval_line, linear, logarithmic, marker, path, percent
from engine.report.labels import NBSP, brief, count, number, span
from engine.report.page_data import BINS, LossPoint


def tones(models: Sequence[ModelEntry]) -> dict[str, str]:
    """Return model -> CSS class of its colour, the same in every chart."""
    students = [model.name for model in models if model.role == "student"]
    return {m.name: f"student-{students.index(m.name) % 4}" if m.role == "student" else m.role for m in models}


def tooltip(interval: Estimate | None) -> str:
    """Return a value with its interval and count."""
    if interval is None:
        return number(None)
    n = f", n{NBSP}={NBSP}{count(interval.n)}" if interval.n else ""
    return f"{number(interval.value)} ({span(interval.low, interval.high)}){n}"


def metric_of(model: ModelEntry, metric: str) -> Estimate | None:
    """Return the metric named `metric`."""
    return getattr(model.metrics, metric)


def dots(models: Sequence[ModelEntry], metric: str, *, low: float = 0.0) -> Markup:
    """Return points with intervals, one line per model, on a shared axis from `low` to 1."""
    tone = tones(models)
    rows = [(model, interval) for model in models if (interval := metric_of(model, metric))]
    if not rows:
        return Markup("")
    axis, height = linear(low, 1, n=4), 30 * len(rows)
    marks = []
    for index, (model, interval) in enumerate(rows):
        y, name = 30 * index + 15, model.name
        ends = max(0, axis.place(interval.low)), min(1, axis.place(interval.high))
        marks.append(interval_line((percent(ends[0]), percent(ends[1])), (y, y), tone=tone[name]))
        tip = f"{name}\n{tooltip(interval)}"
        marks.append(marker(model.role, axis.place(interval.value), y, tone=tone[name], tip=tip))
        marks.append(Markup('<text x="100%" y="{}" dx="12" dy="4">{}</text>').format(y, number(interval.value)))
    names = [(height - 30 * index - 15.0, model.name) for index, (model, _) in enumerate(rows)]
    y_axis = Axis(lambda value: value / height, names)
    return frame(marks, x=axis, y=y_axis, height=height, label=f"{metric} of every model with intervals")


def axis_start(models: Sequence[ModelEntry], metrics: Sequence[str]) -> float:
    """Return the round number below every interval of `metrics`, where a shared axis can start."""
    intervals = [interval for model in models for metric in metrics if (interval := metric_of(model, metric))]
    lowest = min((min(interval.low, interval.value) for interval in intervals), default=0.0)
    return max(0.0, math.floor(lowest * 5) / 5 if lowest > 0.2 else 0.0)


def scatter(
    models: Sequence[ModelEntry],
    read: Callable[[ModelEntry], float | None],
    *,
    title: str,
    write: Callable[[float], str],
    limit: float | None = None,
) -> Markup:
    """Return exact match against the value that `read` returns, on a logarithmic axis; `limit` is the gate's upper limit."""
    tone, height = tones(models), 260
    rows = [(m, x, exact) for m in models if (x := read(m)) and x > 0 and (exact := m.metrics.exact_match)]
    if not rows:
        return Markup("")
    values = [value for _, value, _ in rows] + ([limit] if limit else [])
    x = logarithmic(min(values), max(values), title=title, write=write)
    y = linear(axis_start([model for model, _, _ in rows], ["exact_match"]), 1, n=4, title="exact match")
    gate = Markup('<line class="limit" x1="{0}" x2="{0}" y1="0" y2="{1}"/><text class="tick" x="{0}" y="12" dx="5">gate</text>')
    marks = [gate.format(percent(x.place(limit)), height)] if limit else []
    heights = [height * (1 - y.place(exact.value)) for _, _, exact in rows]
    for (model, value, exact), at_y, text_y in zip(rows, heights, avoid_overlap(heights, 15, 8, height - 6), strict=True):
        at_x, name = x.place(value), model.name
        ends = height * (1 - y.place(exact.high)), height * (1 - max(0.0, y.place(exact.low)))
        marks.append(interval_line((percent(at_x), percent(at_x)), ends, tone=tone[name]))
        tip = f"{name}\nexact match {tooltip(exact)}\n{title}: {write(value)}"
        marks.append(marker(model.role, at_x, at_y, tone=tone[name], tip=tip))
        side = (10, "start") if at_x < 0.7 else (-10, "end")
        label = Markup('<text class="name" x="{}" y="{:.1f}" dx="{}" dy="4" text-anchor="{}">{}</text>')
        marks.append(label.format(percent(at_x), text_y, *side, name))
    return frame(marks, x=x, y=y, height=height, label=f"exact match against {title}")


def curve(steps: Sequence[LossPoint], *, losses: tuple[float, float], tokens: float, tone: str) -> Markup:
    """Return training loss (thin) and validation loss (thick) over target tokens; `losses` are the ends of the axis."""
    x, height = linear(0, tokens or 1, n=4, title="target tokens"), 220
    y = logarithmic(*losses, title="loss, nats per target token", write=lambda value: f"{value:g}")
    x = x._replace(ticks=[(value, brief(value) if value else "0") for value, _ in x.ticks])
    lines: dict[str, list[tuple[LossPoint, float]]] = {"train": [], "validation": []}
    for step in steps:
        if step.loss is not None and 0 < step.loss < math.inf:
            lines.setdefault(step.split, []).append((step, step.loss))
    marks = []
    for split, kind in (("train", "thin"), ("validation", "thick")):
        points = [(x.place(step.tokens), y.place(loss)) for step, loss in lines[split]]
        if points:
            marks.append(path(points, height=height, tone=f"{tone} {kind}"))
    for split, kind in (("train", "ghost"), ("validation", f"spot {tone}")):
        marks += [_spot(x.place(step.tokens), height * (1 - y.place(loss)), kind, step) for step, loss in lines[split]]
    if lines["validation"]:
        best, loss = min(lines["validation"], key=lambda pair: pair[1])
        at_x = x.place(best.tokens)
        label = Markup('<text class="name" x="{}" y="{:.1f}" dy="-10" text-anchor="{}">best {}</text>')
        anchor = "end" if at_x > 0.8 else "middle"
        marks.append(label.format(percent(at_x), height * (1 - y.place(loss)), anchor, number(loss, 3)))
    return frame(marks, x=x, y=y, height=height, label="training and validation loss")


def _spot(x: float, y: float, kind: str, step: LossPoint) -> Markup:
    metric = "" if step.metric is None else f"\nexact match {number(step.metric, 3)}"
    tip = f"{step.split}, step {step.step}\nloss {number(step.loss, 4)}{metric}\n{count(step.tokens)} target tokens"
    radius = 3.5 if kind != "ghost" else 5
    return Markup('<circle class="{}" cx="{}" cy="{:.1f}" r="{}" data-tip="{}"/>').format(kind, percent(x), y, radius, tip)


def reliability(bins: Sequence[ReliabilityBin], *, tone: str) -> Markup:
    """Return the reliability diagram (DeGroot and Fienberg, The Statistician 32, 1983): accuracy against confidence per bin.

    The area of a point is proportional to its answers.
    """
    full = [(b, b.confidence, b.accuracy) for b in bins if b.n and b.confidence is not None and b.accuracy is not None]
    if not full:
        return Markup("")
    height, most = 190, max(b.n for b, _, _ in full)
    marks = [path([(0, 0), (1, 1)], height=height, tone="diagonal")]
    gap = Markup('<line class="gap {0}" x1="{1}" x2="{1}" y1="{2:.1f}" y2="{3:.1f}"/>')
    bubble = Markup('<circle class="bubble {}" cx="{}" cy="{:.1f}" r="{:.1f}" data-tip="{}"/>')
    for b, confidence, accuracy in full:
        x, y = percent(confidence), height * (1 - accuracy)
        tip = f"confidence {number(confidence)}\naccuracy {number(accuracy)}\n{count(b.n)} answers"
        marks.append(gap.format(tone, x, y, height * (1 - confidence)))
        marks.append(bubble.format(tone, x, y, 3 + 11 * math.sqrt(b.n / most), tip))
    x_axis = linear(0, 1, n=4, title="confidence")
    return frame(marks, x=x_axis, y=linear(0, 1, n=4, title="accuracy"), height=height, label="reliability diagram")


def histogram(bins: dict[str, list[int]], order: Sequence[str]) -> Markup:
    """Return the histogram of the confidence of all answers, stacked by pool; `bins` maps pool -> answers per bin."""
    totals = [sum(column) for column in zip(*bins.values(), strict=True)] if bins else []
    if not sum(totals):
        return Markup("")
    height, top = 170, max(totals)
    y = linear(0, top, n=3, title="answers")
    bar = Markup('<rect class="pool-{}" x="{}" width="{}" y="{:.1f}" height="{:.1f}" data-tip="{}"/>')
    marks = []
    for index in range(BINS):
        base = 0
        for pool in [pool for pool in order if bins.get(pool, [0] * BINS)[index]]:
            rows = bins[pool][index]
            base += rows
            tip = f"{pool}\n{count(rows)} answers\nconfidence {number(index / BINS)} to {number((index + 1) / BINS)}"
            left, width = percent((index + 0.08) / BINS), percent(0.84 / BINS)
            marks.append(bar.format(pool, left, width, height * (1 - y.place(base)), max(0.7, height * rows / top), tip))
    return frame(marks, x=linear(0, 1, n=5, title="confidence"), y=y, height=height, label="confidence of all answers by pool")
