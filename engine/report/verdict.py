"""The headline and the gate's table: which student wins, or which number refused it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from engine.report.labels import AT_MOST, GATE_LABELS, at, brief, money, number, span, whole

BEATS = "beats "


class GateLine(NamedTuple):
    """One number that the contract asks of one student."""

    label: str
    found: str
    ends: str  # of the interval, "" if it has none
    wanted: str
    passed: bool | None  # None: not measured


class Bar(NamedTuple):
    """One model in a headline tile."""

    name: str
    text: str
    share: float  # of the tile's width
    low: float | None
    high: float | None
    tone: str


class Tile(NamedTuple):
    """One number of the headline, teacher beside student."""

    title: str
    value: str
    note: str
    bars: list[Bar]
    is_point: bool  # drawn as a dot with a whisker, not as a bar


class Measured(NamedTuple):
    """A number of a model that is better when it is small."""

    title: str
    path: tuple[str, ...]  # in its entry of the report
    write: Callable[[Any], str]
    less: str


MEASURED = (
    Measured("Parameters", ("parameters",), brief, "smaller than the teacher"),
    Measured("Latency p95", ("latency", "p95_ms"), lambda value: whole(value, " ms"), "faster than the teacher"),
    Measured("Cost per 1,000 accepted", ("cost", "per_1000_accepted"), money, "cheaper than the teacher"),
)


def named(models: Sequence[dict[str, Any]], name: str | None) -> dict[str, Any] | None:
    """Return the model called `name`."""
    return next((model for model in models if model.get("name") == name), None)


def shown_student(models: Sequence[dict[str, Any]], winner: str | None) -> dict[str, Any] | None:
    """The winner; without one, the student with the best exact match."""
    students = [model for model in models if model.get("role") == "student"]
    best = max(students, key=lambda m: at(m, "metrics", "exact_match", "value") or 0, default=None)
    return named(models, winner) or best


def headline(report: dict[str, Any], models: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """Return the verdict in a few words and the sentence below it."""
    winner = at(report, "gate", "winner")
    student = shown_student(models, winner)
    if student is None:
        return "No student has been evaluated", "The report lists no student, so the gate had nothing to decide."
    if winner is None:
        refusals = at(report, "gate", "refusals") or {}
        reasons = [_refusal(name, lines) for name, lines in refusals.items() if lines]
        return "No student passes the gate", " ".join(reasons) or "The gate names no number that refused."
    passing = [name for name in at(report, "gate", "passing") or [] if name != winner]
    others = f" {_listed(passing)} {'passes' if len(passing) == 1 else 'pass'} too; the smallest wins." if passing else ""
    return f"Student {winner} passes the gate", _praise(student, report, models) + others


def _praise(student: dict[str, Any], report: dict[str, Any], models: Sequence[dict[str, Any]]) -> str:
    teacher = next((model for model in models if model.get("role") == "teacher"), None)
    parts = []
    if teacher and student.get("parameters") and teacher.get("parameters"):
        times = teacher["parameters"] / student["parameters"]
        parts.append(f"is {times:.1f} times smaller than its teacher")
    kept = at(student, "against_teacher", "retention")
    if at(kept, "value") is not None:
        parts.append(f"keeps {_percent(kept)} of the teacher's exact match")
    unseen = at(student, "against_teacher", "retention_unseen")
    tail = f", and {_percent(unseen)} on scenarios it never saw" if at(unseen, "value") is not None else ""
    return ("It " + " and ".join(parts) + tail + "." if parts else "") + _on(report)


def _on(report: dict[str, Any]) -> str:
    rows = at(report, "holdout", "rows")
    return f" Measured on {rows:,} holdout prompts that no model wrote." if rows else ""


def _percent(found: Any) -> str:
    ends = (
        f" ({found['low'] * 100:.0f}\u2013{found['high'] * 100:.0f})"
        if found.get("low") is not None and found.get("high") is not None
        else ""
    )
    return f"{found['value'] * 100:.0f}\u00a0%{ends}"


def _refusal(name: str, lines: Sequence[dict[str, Any]]) -> str:
    weighed = [_gate_line(line) for line in lines]
    return f"{name} misses {'; '.join(f'{_inside(line.label)} {line.found}, wanted {line.wanted}' for line in weighed)}."


def _inside(label: str) -> str:
    """The label as it stands inside a sentence: ECE stays, Exact match becomes exact match."""
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


def _label(key: str) -> str:
    if key.startswith(BEATS):
        return f"Lead over {key.removeprefix(BEATS)}"
    return GATE_LABELS.get(key, key.replace("_", " ").capitalize())


def _write(key: str, value: Any) -> str:
    if value is None:
        return "not measured"
    if not isinstance(value, int | float):
        return str(value)
    return whole(value) if key == "p95_ms" else number(value, 3)


def _wanted(key: str, value: Any) -> str:
    if key.startswith(BEATS):
        return "interval above 0"
    if isinstance(value, int | float):
        return f"{'at most' if key in AT_MOST else 'at least'} {whole(value) if key == 'p95_ms' else format(value, 'g')}"
    return str(value)


def gate_lines(student: dict[str, Any], report: dict[str, Any], contract: dict[str, Any]) -> list[GateLine]:
    """Return every number that is asked of `student`: as the gate weighed them, else the contract's with its refusals."""
    weighed = at(report, "gate", "numbers", student["name"])
    if weighed is None:
        weighed = [_weighed(student, key, wanted, report) for key, wanted in _asked(contract)]
    return [_gate_line(line) for line in weighed]


def _asked(contract: dict[str, Any]) -> list[tuple[str, Any]]:
    gate = contract.get("gate") or {}
    numbers = [(key, wanted) for key, wanted in gate.items() if key != "beats" and wanted is not None]
    return numbers + [(f"beats {name}", 0.0) for name in gate.get("beats") or ()]


def _weighed(student: dict[str, Any], key: str, wanted: Any, report: dict[str, Any]) -> dict[str, Any]:
    found = _found(student, key)
    refused = any(line["number"] == key for line in at(report, "gate", "refusals", student["name"]) or ())
    ends = {"low": found.get("low"), "high": found.get("high")}
    return {"number": key, "found": found.get("value"), "wanted": wanted, "passed": not refused, **ends}


def _gate_line(line: dict[str, Any]) -> GateLine:
    key, found = line["number"], line.get("found")
    written = f"{found:+.3f}" if key.startswith(BEATS) and found is not None else _write(key, found)
    ends = span(line.get("low"), line.get("high"))
    passed = None if found is None and line.get("passed") else bool(line.get("passed"))
    return GateLine(_label(key), written, ends, _wanted(key, line.get("wanted")), passed)


def _found(student: dict[str, Any], key: str) -> dict[str, Any]:
    if key.startswith(BEATS):
        return at(student, "against_baselines", key.removeprefix(BEATS)) or {}
    if key in ("retention", "retention_unseen"):
        return at(student, "against_teacher", key) or {}
    if key == "p95_ms":
        return {"value": at(student, "latency", "p95_ms")}
    return at(student, "metrics", key) or {}


def tiles(report: dict[str, Any], models: Sequence[dict[str, Any]], tone: dict[str, str]) -> list[Tile]:
    """Return quality, size, latency and cost of teacher, student and best baseline, side by side."""
    student = shown_student(models, at(report, "gate", "winner"))
    teacher = next((model for model in models if model.get("role") == "teacher"), None)
    if student is None:
        return []
    bases = [model for model in models if model.get("role") == "baseline"]
    base = max(bases, key=lambda m: at(m, "metrics", "exact_match", "value") or 0, default=None)
    champion = next((model for model in models if model.get("role") == "champion"), None)
    trio = [model for model in (teacher, champion, student, base) if model]
    return [
        _points("Exact match", trio, student, tone, note=_interval_note(student)),
        *(_bars(one, trio, student, tone) for one in MEASURED),
    ]


def _interval_note(student: dict[str, Any]) -> str:
    found = at(student, "metrics", "exact_match") or {}
    ends = span(found.get("low"), found.get("high"))
    return f"{ends} on {found['n']:,} prompts" if ends and found.get("n") else ends


def _points(title: str, trio: Sequence[dict[str, Any]], student: dict[str, Any], tone: dict[str, str], *, note: str) -> Tile:
    bars = []
    for model in trio:
        found = at(model, "metrics", "exact_match") or {}
        if found.get("value") is not None:
            bars.append(
                Bar(model["name"], number(found["value"]), found["value"], found.get("low"), found.get("high"), tone[model["name"]])
            )
    return Tile(title, number(at(student, "metrics", "exact_match", "value")), note, bars, True)


def _bars(one: Measured, trio: Sequence[dict[str, Any]], student: dict[str, Any], tone: dict[str, str]) -> Tile:
    values = {model["name"]: at(model, *one.path) for model in trio if at(model, *one.path) is not None}
    most = max(values.values(), default=0) or 1
    bars = [Bar(name, one.write(value), value / most, None, None, tone[name]) for name, value in values.items()]
    mine, theirs = at(student, *one.path), at(trio[0], *one.path) if trio[0].get("role") == "teacher" else None
    note = ""
    if mine and theirs:
        note = f"{theirs / mine:.1f}\u00d7 {one.less}" if theirs >= mine else f"{mine / theirs:.1f}\u00d7 the teacher's"
    return Tile(one.title, one.write(mine), note, bars, False)
