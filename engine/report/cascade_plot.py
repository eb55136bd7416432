"""The chart of a cascade: accuracy against cost or coverage, over all thresholds, with each model alone on it."""

from markupsafe import Markup

from engine.records.certificate import CascadeCurve, CurvePoint
from engine.report.draw import frame, linear, marker, path
from engine.report.labels import number

HEIGHT, MARGIN = 220, 0.02
ROWS = 6  # of the table


def cascade(curve: CascadeCurve, *, tone: str) -> Markup:
    """Return the chart of `curve`; "" without a point. Without prices the axis is the share that the student answers."""
    points = [*curve.points, *curve.alone.values()]
    if not curve.points:
        return Markup("")
    is_priced = all(point.cost_per_1000_accepted is not None for point in points)
    values = [_at(curve, point, is_priced=is_priced) for point in points]
    space = MARGIN * ((max(values) - min(values)) or 1.0)
    title = "cost of 1,000 right answers" if is_priced else "share that the student answers"
    x = linear(min(values) - space, max(values) + space, n=4, title=title)
    accuracies = [point.accuracy for point in points]
    y = linear(max(0.0, min(accuracies) - MARGIN), min(1.0, max(accuracies) + MARGIN), n=4, title="accuracy")
    places = [(x.place(_at(curve, point, is_priced=is_priced)), y.place(point.accuracy)) for point in curve.points]
    marks = [path(places, height=HEIGHT, tone=f"{tone} thick")]
    who = f"{curve.student}, then {curve.fallback}"
    for point, (left, up) in zip(curve.points, places, strict=True):
        marks.append(marker("student", left, HEIGHT * (1 - up), tone=tone, tip=_tip(who, point)))
    for name, point in curve.alone.items():
        left, up = x.place(_at(curve, point, is_priced=is_priced)), y.place(point.accuracy)
        kind, colour = ("champion", tone) if name == curve.student else ("teacher", "teacher")
        marks.append(marker(kind, left, HEIGHT * (1 - up), tone=colour, tip=_tip(f"{name} alone", point)))
    return frame(marks, x=x, y=y, height=HEIGHT, label=f"cascade of {curve.student} before {curve.fallback}")


def rows(curve: CascadeCurve) -> list[tuple[str, CurvePoint]]:
    """Return a few points of `curve` at even coverages, and each model alone, with who answers."""
    step = max(1, -(-len(curve.points) // ROWS))
    shown = [(f"{curve.student}, then {curve.fallback}", point) for point in curve.points[step // 2 :: step]]
    return [*shown, *((f"{name} alone", point) for name, point in curve.alone.items())]


def _at(curve: CascadeCurve, point: CurvePoint, *, is_priced: bool) -> float:
    if is_priced:
        return float(point.cost_per_1000_accepted or 0.0)
    return 0.0 if point is curve.alone.get(curve.fallback) else point.coverage


def _tip(who: str, point: CurvePoint) -> str:
    accuracy = f"{who}\naccuracy {number(point.accuracy, 3)}"
    if point.threshold is None:
        return accuracy
    return f"{accuracy}\nfrom confidence {number(point.threshold, 3)} on, {number(point.coverage, 2)} answered"
