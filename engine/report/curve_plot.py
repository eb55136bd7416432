"""The chart of the learning curve: exact match against the number of examples, and what the law gives for twice of them."""

from markupsafe import Markup

from engine.records.curve import LearningCurve
from engine.records.estimate import Estimate
from engine.report.draw import frame, interval_line, linear, logarithmic, marker, path, percent
from engine.report.labels import brief, number, span

HEIGHT, MARGIN = 210, 0.03


def learning_curve(curve: LearningCurve | None) -> Markup:
    """Return the chart of `curve`; "" without one, or without intervals."""
    points = [(point.examples, point.exact_match) for point in curve.points if point.exact_match] if curve else []
    if not curve or not points:
        return Markup("")
    today = points[-1][1]
    every = [*points]
    if curve.next_gain and curve.next_examples:
        ends = (curve.next_gain.value, curve.next_gain.low, curve.next_gain.high)
        value, low, high = (today.value + gain for gain in ends)
        every.append((curve.next_examples, Estimate(value=value, low=low, high=high, n=0)))
    lows, highs = [each.low for _, each in every], [each.high for _, each in every]
    y = linear(min(lows) - MARGIN, max(highs) + MARGIN, n=4, title="exact match")
    x = logarithmic(every[0][0], every[-1][0], title="examples", write=brief)
    marks = [path([(x.place(examples), y.place(each.value)) for examples, each in points], height=HEIGHT, tone="student-0 thick")]
    for index, (examples, each) in enumerate(every):
        is_law = index == len(points)
        left, place = x.place(examples), [HEIGHT * (1 - y.place(end)) for end in (each.value, each.low, each.high)]
        tone = "baseline" if is_law else "student-0"
        what = "by the law, from today's" if is_law else f"{curve.seeds} seeds"
        tip = f"{brief(examples)} examples\nexact match {number(each.value, 3)} ({span(each.low, each.high, 3)})\n{what}"
        marks.append(interval_line((percent(left), percent(left)), (place[1], place[2]), tone=tone))
        marks.append(marker("champion" if is_law else "student", left, place[0], tone=tone, tip=tip))
    return frame(marks, x=x, y=y, height=HEIGHT, label="learning curve over data")
