"""The chart of the buckets' effects: one interval a line, with the line of no effect."""

from markupsafe import Markup

from engine.records.attribution import Attribution
from engine.report.draw import Axis, frame, interval_line, linear, marker, percent
from engine.report.labels import span

LINE, MARGIN = 26, 0.02  # pixels a bucket; exact match beside the widest interval
TONES = {"helps": "student-1", "hurts": "champion", "adds_nothing": "baseline", "unclear": "student-0"}


def effects(attribution: Attribution | None) -> Markup:
    """Return the chart of the buckets that were trained without; "" without any."""
    shown = [(bucket, bucket.effect) for bucket in attribution.buckets if bucket.effect] if attribution else []
    if not shown:
        return Markup("")
    height = LINE * len(shown)
    low = min(0.0, *(effect.low for _, effect in shown)) - MARGIN
    high = max(0.0, *(effect.high for _, effect in shown)) + MARGIN
    x = linear(low, high, n=5, title="exact match with the bucket less without it")
    names = [(1 - (index + 0.5) / len(shown), f"{bucket.kind} {bucket.value}"[:24]) for index, (bucket, _) in enumerate(shown)]
    y = Axis(lambda place: place, names)
    zero = Markup('<line class="limit" x1="{0}" x2="{0}" y1="0" y2="{1}"/>').format(percent(x.place(0)), height)
    marks = [zero]
    for index, (bucket, effect) in enumerate(shown):
        at, tone = LINE * (index + 0.5), TONES[bucket.verdict]
        ends = percent(x.place(effect.low)), percent(x.place(effect.high))
        tip = f"{bucket.kind} {bucket.value}\n{effect.value:+.3f} ({span(effect.low, effect.high, 3)})\n{bucket.what}"
        marks += [interval_line(ends, (at, at), tone=tone), marker("student", x.place(effect.value), at, tone=tone, tip=tip)]
    chart = frame(marks, x=x, y=y, height=height, label="effect of each bucket of the examples")
    return Markup('<div class="effects">{}</div>').format(chart)
