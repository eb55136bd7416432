"""The pictures: small functions from plain values to SVG. Nothing here knows the page."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from engine.report.draw import Axis, frame, linear, logarithmic, path, percent, round_ticks, shape, spread, stem, whisker
from engine.report.facts import BINS
from engine.report.labels import NBSP, at, brief, count, number, span, whole

UNIT = linear(0, 1, n=5)


def tones(models: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Model -> the class that gives its colour; the same on every picture."""
    students = [model["name"] for model in models if model.get("role") == "student"]
    return {
        model["name"]: f"student-{students.index(model['name']) % 4}" if model.get("role") == "student" else str(model.get("role"))
        for model in models
    }


def told(found: dict[str, Any]) -> str:
    """A value with its interval and count, for a tooltip."""
    ends = span(found.get("low"), found.get("high"))
    n = found.get("n")
    return number(found.get("value")) + (f" ({ends})" if ends else "") + (f", n{NBSP}={NBSP}{count(n)}" if n else "")


def dots(models: Sequence[dict[str, Any]], metric: str, *, low: float = 0.0) -> Markup:
    """Dot and whisker, one line a model, on a shared axis from `low` to 1."""
    tone = tones(models)
    rows = [model for model in models if at(model, "metrics", metric, "value") is not None]
    if not rows:
        return Markup("")
    axis, height = linear(low, 1, n=4), 30 * len(rows)
    marks = []
    for index, model in enumerate(rows):
        found, y, name = model["metrics"][metric], 30 * index + 15, model["name"]
        if found.get("low") is not None:
            marks.append(whisker(max(0, axis.place(found["low"])), min(1, axis.place(found["high"])), y, tone=tone[name]))
        marks.append(shape(model["role"], axis.place(found["value"]), y, tone=tone[name], tip=f"{name}\n{told(found)}"))
        marks.append(Markup('<text x="100%" y="{}" dx="12" dy="4">{}</text>').format(y, number(found["value"])))
    names = [(height - 30 * i - 15, model["name"]) for i, model in enumerate(rows)]
    y_axis = Axis(lambda v: v / height, [(place, name) for place, name in names])
    return frame(marks, x=axis, y=y_axis, height=height, label=f"{metric} of every model with intervals")


def floor_of(models: Sequence[dict[str, Any]], metrics: Sequence[str]) -> float:
    """The round number below every interval of `metrics`: where a shared axis may begin."""
    found = [at(m, "metrics", metric, end) for m in models for metric in metrics for end in ("low", "value")]
    lowest = min((value for value in found if value is not None), default=0.0)
    return max(0.0, math.floor(lowest * 5) / 5 if lowest > 0.2 else 0.0)


def scatter(models: Sequence[dict[str, Any]], reach: Sequence[str], *, title: str, limit: float | None = None) -> Markup:
    """Exact match against the value at the path `reach`, on a logarithmic axis; `limit` is the gate's most."""
    tone = tones(models)
    rows = [m for m in models if (at(m, *reach) or 0) > 0 and at(m, "metrics", "exact_match", "value") is not None]
    if not rows:
        return Markup("")
    values = [at(m, *reach) for m in rows] + ([limit] if limit else [])
    write = brief if reach[0] == "parameters" else whole
    x = logarithmic(min(values), max(values), title=title, write=write)
    bottom = floor_of(rows, ["exact_match"])
    y, height, marks = linear(bottom, 1, n=4, title="exact match"), 260, []
    if limit:
        marks.append(
            Markup(
                '<line class="limit" x1="{0}" x2="{0}" y1="0" y2="{1}"/><text class="tick" x="{0}" y="12" dx="5">gate</text>'
            ).format(percent(x.place(limit)), height)
        )
    heights = [height * (1 - y.place(m["metrics"]["exact_match"]["value"])) for m in rows]
    for model, at_y, text_y in zip(rows, heights, spread(heights, 15, 8, height - 6), strict=True):
        found, at_x = model["metrics"]["exact_match"], x.place(at(model, *reach))
        if found.get("low") is not None:
            marks.append(
                stem(
                    at_x,
                    height * (1 - y.place(found["high"])),
                    height * (1 - max(0.0, y.place(found["low"]))),
                    tone=tone[model["name"]],
                )
            )
        tip = f"{model['name']}\nexact match {told(found)}\n{title}: {write(at(model, *reach))}"
        marks.append(shape(model["role"], at_x, at_y, tone=tone[model["name"]], tip=tip))
        side = (10, "start") if at_x < 0.7 else (-10, "end")
        marks.append(
            Markup('<text class="name" x="{}" y="{:.1f}" dx="{}" dy="4" text-anchor="{}">{}</text>').format(
                percent(at_x), text_y, *side, model["name"]
            )
        )
    return frame(marks, x=x, y=y, height=height, label=f"exact match against {title}")


def curve(steps: Sequence[dict[str, Any]], *, losses: tuple[float, float], tokens: float, tone: str) -> Markup:
    """Training loss (thin) and validation loss (thick) of one student over its target tokens; `losses` are the axis' ends."""
    x, height = linear(0, tokens or 1, n=4, title="target tokens"), 220
    y = logarithmic(*losses, title="loss, nats per target token", write=lambda v: f"{v:g}")
    x = x._replace(ticks=[(value, brief(value) if value else "0") for value, _ in x.ticks])
    lines, marks = {"train": [], "validation": []}, []
    for step in steps:
        if step.get("loss") is not None and 0 < step["loss"] < math.inf:
            lines.setdefault(step["split"], []).append(step)
    for split, kind in (("train", "thin"), ("validation", "thick")):
        places = [(x.place(s["tokens"]), y.place(s["loss"])) for s in lines[split]]
        if places:
            marks.append(path(places, height=height, tone=f"{tone} {kind}"))
    for step in lines["train"]:
        marks.append(_spot(x.place(step["tokens"]), height * (1 - y.place(step["loss"])), "ghost", step))
    for step in lines["validation"]:
        marks.append(_spot(x.place(step["tokens"]), height * (1 - y.place(step["loss"])), f"spot {tone}", step))
    if lines["validation"]:
        best = min(lines["validation"], key=lambda s: s["loss"])
        at_x = x.place(best["tokens"])
        marks.append(
            Markup('<text class="name" x="{}" y="{:.1f}" dy="-10" text-anchor="{}">best {}</text>').format(
                percent(at_x), height * (1 - y.place(best["loss"])), "end" if at_x > 0.8 else "middle", number(best["loss"], 3)
            )
        )
    return frame(marks, x=x, y=y, height=height, label="training and validation loss")


def _spot(x: float, y: float, kind: str, step: dict[str, Any]) -> Markup:
    tip = f"{step['split']}, step {step['step']}\nloss {number(step['loss'], 4)}\n{count(step['tokens'])} target tokens"
    return Markup('<circle class="{}" cx="{}" cy="{:.1f}" r="{}" data-tip="{}"/>').format(
        kind, percent(x), y, 3.5 if kind != "ghost" else 5, tip
    )


def reliability(bins: Sequence[dict[str, Any]], *, tone: str) -> Markup:
    """Accuracy against confidence in bins (DeGroot and Fienberg, 1983); a dot's area is its number of answers."""
    full = [b for b in bins if b.get("n") and b.get("confidence") is not None and b.get("accuracy") is not None]
    if not full:
        return Markup("")
    height, most = 190, max(b["n"] for b in full)
    marks = [path([(0, 0), (1, 1)], height=height, tone="diagonal")]
    for b in full:
        x, y = percent(b["confidence"]), f"{height * (1 - b['accuracy']):.1f}"
        tip = f"confidence {number(b['confidence'])}\naccuracy {number(b['accuracy'])}\n{count(b['n'])} answers"
        marks.append(
            Markup('<line class="gap {0}" x1="{1}" x2="{1}" y1="{2}" y2="{3:.1f}"/>').format(
                tone, x, y, height * (1 - b["confidence"])
            )
        )
        marks.append(
            Markup('<circle class="bubble {}" cx="{}" cy="{}" r="{:.1f}" data-tip="{}"/>').format(
                tone, x, y, 3 + 11 * math.sqrt(b["n"] / most), tip
            )
        )
    x_axis = linear(0, 1, n=4, title="confidence")
    return frame(marks, x=x_axis, y=linear(0, 1, n=4, title="accuracy"), height=height, label="reliability diagram")


def histogram(bins: dict[str, list[int]], order: Sequence[str]) -> Markup:
    """Confidence of all answers, a bar a bin, stacked by pool."""
    totals = [sum(column) for column in zip(*bins.values(), strict=True)] if bins else []
    if not sum(totals):
        return Markup("")
    height, top = 170, max(totals)
    y = linear(0, top, n=3, title="answers")
    marks = []
    for index in range(BINS):
        base = 0
        for pool in [pool for pool in order if bins.get(pool, [0] * BINS)[index]]:
            rows = bins[pool][index]
            base += rows
            tip = f"{pool}\n{count(rows)} answers\nconfidence {number(index / BINS)} to {number((index + 1) / BINS)}"
            marks.append(
                Markup('<rect class="pool-{}" x="{}" width="{}" y="{:.1f}" height="{:.1f}" data-tip="{}"/>').format(
                    pool,
                    percent((index + 0.08) / BINS),
                    percent(0.84 / BINS),
                    height * (1 - y.place(base)),
                    max(0.7, height * rows / top),
                    tip,
                )
            )
    return frame(marks, x=linear(0, 1, n=5, title="confidence"), y=y, height=height, label="confidence of all answers by pool")


__all__ = ["curve", "dots", "floor_of", "histogram", "reliability", "round_ticks", "scatter", "told", "tones"]
