"""The page's headline: the gate's decision in a sentence, the tiles of teacher and student, and the rows of the gate's table."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.records.estimate import Estimate
from engine.records.gate import BEATS, SLICES, GateDecision, GateNumber, Word
from engine.records.report import ModelEntry, Report
from engine.report.labels import GATE_LABELS, MISSING, brief, money, number, span, whole


class GateRow(NamedTuple):
    """One requirement of the contract, as text."""

    label: str
    found: str
    interval: str  # "" if there is none
    wanted: str
    passed: bool
    word: Word
    basis: str = ""  # what it was measured on: `128 in 80 clusters`
    note: str = ""  # what would decide it, or what else there is to know
    method: str = ""


class Bar(NamedTuple):
    """One model in a tile."""

    name: str
    text: str
    share: float  # of the tile's width
    low: float | None
    high: float | None
    tone: str


class Tile(NamedTuple):
    """One number of the headline for teacher, champion, student and best baseline."""

    title: str
    value: str
    note: str
    bars: list[Bar]
    is_point: bool  # drawn as a point with an interval, not as a bar


class Quantity(NamedTuple):
    """A number of a model that is better when it is small."""

    title: str
    read: Callable[[ModelEntry], float | None]
    write: Callable[[float | None], str]
    less: str  # what less of it means


QUANTITIES = (
    Quantity("Parameters", lambda model: model.parameters, brief, "smaller than the teacher"),
    Quantity(
        "Latency p95", lambda model: model.latency and model.latency.p95_ms, lambda x: whole(x, " ms"), "faster than the teacher"
    ),
    Quantity(
        "Cost per 1,000 accepted", lambda model: model.cost and model.cost.per_1000_accepted, money, "cheaper than the teacher"
    ),
)


def exact_match(model: ModelEntry) -> float:
    """Return the model's exact match, 0 if it has none."""
    return model.metrics.exact_match.value if model.metrics.exact_match else 0.0


def shown_student(report: Report) -> ModelEntry | None:
    """Return the winner; without one, the student with the best exact match; None without students."""
    students = [model for model in report.models if model.role == "student"]
    winner = next((student for student in students if student.name == report.gate.winner), None)
    return winner or max(students, key=exact_match, default=None)


def headline(report: Report) -> tuple[str, str]:
    """Return the gate's decision in a few words, and the sentence below it."""
    gate, student = report.gate, shown_student(report)
    if student is None:
        return "No student has been evaluated", "The report lists no student, so the gate has nothing to decide."
    if gate.winner is None:
        refused = [_refusal(name, numbers) for name, numbers in gate.refusals.items() if numbers]
        refused += [f"{name} is refused: {gate.because[name]}" for name in gate.refusals if name in gate.because]
        sentences = [_open(name, numbers, gate) for name, numbers in gate.undecided.items()] + refused
        title = "The holdout does not decide the gate" if gate.undecided else "No student passes the gate"
        return title, " ".join(sentences) or "The report names no requirement that was missed."
    others = [name for name in gate.passing if name != gate.winner]
    also = f" {_listed(others)} {'passes' if len(others) == 1 else 'pass'} too; the smallest wins." if others else ""
    if others and gate.passing[0] != gate.winner:
        also = also.replace("the smallest wins", "the cheapest for each right answer wins")
    return f"Student {gate.winner} passes the gate", _summary(student, report) + also


def _summary(student: ModelEntry, report: Report) -> str:
    teacher, comparison = _first(report, "teacher"), student.against_teacher
    parts = []
    if teacher and student.parameters and teacher.parameters:
        parts.append(f"is {teacher.parameters / student.parameters:.1f} times smaller than its teacher")
    if comparison and comparison.retention:
        parts.append(f"retains {_percent(comparison.retention)} of the teacher's exact match")
    tail = (
        f", and {_percent(comparison.retention_unseen)} on unseen scenarios" if comparison and comparison.retention_unseen else ""
    )
    rows = report.holdout.rows
    measured = f" Measured on {rows:,} holdout prompts whose references no model wrote." if rows else ""
    return ("It " + " and ".join(parts) + tail + "." if parts else "") + measured


def _first(report: Report, role: str) -> ModelEntry | None:
    return next((model for model in report.models if model.role == role), None)


def _percent(interval: Estimate) -> str:
    return f"{interval.value * 100:.0f}\u00a0% ({interval.low * 100:.0f}\u2013{interval.high * 100:.0f})"


def _refusal(name: str, numbers: Sequence[GateNumber]) -> str:
    rows = [gate_row(each) for each in numbers]
    return f"{name} misses {'; '.join(f'{_in_sentence(row.label)} {row.found}, wanted {row.wanted}' for row in rows)}."


def _open(name: str, numbers: Sequence[GateNumber], gate: GateDecision) -> str:
    if name in gate.because:
        return f"{name} is undecided: {gate.because[name]}"
    rows = [gate_row(each) for each in numbers]
    facts = "; ".join(f"{_in_sentence(row.label)} {row.found} ({row.interval}), wanted {row.wanted}" for row in rows)
    more = max((number.more or 0 for number in numbers if number.number != "p95_ms"), default=0)
    return f"{name} is undecided: {facts}." + (f" About {more:,} further independent prompts would decide." if more else "")


def _in_sentence(label: str) -> str:
    """Return the label as written inside a sentence: ECE stays, Exact match becomes exact match."""
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


def gate_rows(report: Report) -> dict[str, list[GateRow]]:
    """Return student -> the requirements as the gate weighed them."""
    students = [model.name for model in report.models if model.role == "student"]
    return {name: [gate_row(each) for each in report.gate.numbers.get(name, ())] for name in students}


def gate_row(gate: GateNumber) -> GateRow:
    """Return one requirement as text."""
    name, found = gate.number, gate.found
    if name.startswith(BEATS):
        label, wanted = f"Lead over {name.removeprefix(BEATS)}", "above 0" if gate.word else "interval above 0"
        written = "not measured" if found is None else f"{found:+.3f}"
    else:
        label = GATE_LABELS.get(name, name.replace("_", " ").capitalize())
        write = whole if name == "p95_ms" else brief if name in ("parameters", "weight_bytes") else None
        wanted = f"{'at most' if gate.at_most else 'at least'} {write(gate.wanted) if write else format(gate.wanted, 'g')}"
        missing = MISSING if gate.word == "pass" else "not measured"
        written = missing if found is None else write(found) if write else number(found, 3)
    if name == SLICES:
        wanted = "none worse than the champion"
    digits = 0 if name == "p95_ms" else 2
    word = gate.word or ("pass" if gate.passed else "refuse")
    interval = span(gate.low, gate.high, digits)
    return GateRow(label, written, interval, wanted, gate.passed, word, _basis(gate), _note(gate), gate.method)


def _basis(gate: GateNumber) -> str:
    if not gate.n:
        return ""
    return f"{gate.n:,} in {gate.clusters:,} clusters" if gate.clusters and gate.clusters < gate.n else f"{gate.n:,}"


def _note(gate: GateNumber) -> str:
    if gate.word == "undecided" and not gate.detail:
        what = "timed requests" if gate.number == "p95_ms" else "independent prompts"
        return f"about {gate.more:,} further {what} would decide" if gate.more else "more prompts would not decide"
    return gate.detail


def tiles(report: Report, tone: dict[str, str]) -> list[Tile]:
    """Return exact match, size, latency and cost of teacher, champion, student and best baseline."""
    student, teacher = shown_student(report), _first(report, "teacher")
    if student is None:
        return []
    baselines = [model for model in report.models if model.role == "baseline"]
    best_baseline = max(baselines, key=exact_match, default=None)
    models = [model for model in (teacher, _first(report, "champion"), student, best_baseline) if model]
    return [_points(models, student, tone), *(_bars(quantity, models, student, tone) for quantity in QUANTITIES)]


def _points(models: Sequence[ModelEntry], student: ModelEntry, tone: dict[str, str]) -> Tile:
    exact = {model.name: model.metrics.exact_match for model in models}
    bars = [Bar(name, number(x.value), x.value, x.low, x.high, tone[name]) for name, x in exact.items() if x]
    own = student.metrics.exact_match
    note = (span(own.low, own.high) + (f" on {own.n:,} prompts" if own.n else "")) if own else ""
    return Tile("Exact match", number(own and own.value), note, bars, True)


def _bars(quantity: Quantity, models: Sequence[ModelEntry], student: ModelEntry, tone: dict[str, str]) -> Tile:
    values = {model.name: value for model in models if (value := quantity.read(model)) is not None}
    most = max(values.values(), default=0) or 1
    bars = [Bar(name, quantity.write(value), value / most, None, None, tone[name]) for name, value in values.items()]
    own, teachers = quantity.read(student), quantity.read(models[0]) if models[0].role == "teacher" else None
    note = ""
    if own and teachers:
        note = f"{teachers / own:.1f}\u00d7 {quantity.less}" if teachers >= own else f"{own / teachers:.1f}\u00d7 the teacher's"
    return Tile(quantity.title, quantity.write(own), note, bars, False)
