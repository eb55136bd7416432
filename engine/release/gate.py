"""Compares the contract's gate with the report. A requirement whose number is missing from the report refuses the student."""

from collections.abc import Iterator, Sequence

from engine.contract.evaluation import Gate
from engine.records.estimate import Estimate
from engine.records.report import GateDecision, GateNumber, ModelEntry

AT_MOST = {"ece", "p95_ms"}  # upper limits; the other thresholds are lower limits
COMPARED = {"retention", "retention_unseen"}
EXAMINED, BEATS, TWIN = "examined", "beats ", "beside "  # names in report.json


def decide(models: Sequence[ModelEntry], gate: Gate) -> GateDecision:
    """Return the decision on every student and export among `models`; the smallest has the fewest bytes of weights."""
    students = [model for model in models if model.role == "student"]
    inf = float("inf")  # a report of an earlier version has no bytes
    students.sort(key=lambda student: (student.weight_bytes or inf, student.parameters or inf, student.name))
    numbers = {student.name: tuple(gate_numbers(student, gate)) for student in students}
    missed = {name: tuple(number for number in each if not number.passed) for name, each in numbers.items()}
    passing = tuple(name for name, each in missed.items() if not each)
    refusals = {name: each for name, each in missed.items() if each}
    return GateDecision(passing=passing, refusals=refusals, numbers=numbers, winner=passing[0] if passing else None)


def gate_numbers(entry: ModelEntry, gate: Gate) -> Iterator[GateNumber]:
    """Yield each requirement of `gate` with the model's number."""
    if entry.error:
        yield GateNumber(number=EXAMINED, wanted=1.0)
    thresholds: dict[str, float] = gate.model_dump(exclude={"beats", "hurt_by"}, exclude_none=True)
    for name, threshold in thresholds.items():
        estimate, at_most = _estimate(entry, name), name in AT_MOST
        passed = estimate is not None and (estimate.value <= threshold if at_most else estimate.value >= threshold)
        yield _gate_number(name, estimate, threshold, at_most=at_most, passed=passed)
    for baseline in gate.beats:
        gap = entry.against_baselines.get(baseline)
        yield _gate_number(f"{BEATS}{baseline}", gap, 0.0, passed=gap is not None and gap.low > 0)
    if gate.hurt_by and (twin := gate.hurt_by.twins.get(entry.name)):
        gap, threshold = entry.against_twins.get(twin), -gate.hurt_by.at_most
        yield _gate_number(f"{TWIN}{twin}", gap, threshold, passed=gap is not None and gap.value >= threshold)


def explain(number: GateNumber) -> str:
    """Return one requirement as a phrase, such as `retention: found 0.810, wanted at least 0.9`."""
    found = "nothing" if number.found is None else f"{number.found:.3f}"
    if number.number.startswith(BEATS):
        low = "" if number.low is None else f" (interval from {number.low:+.3f})"
        return f"{number.number}: found a difference of {found}{low}, wanted one whose interval lies above 0"
    if number.number.startswith(TWIN):
        return f"{number.number}: found a difference of {found} in exact match, wanted at least {number.wanted:+g}"
    if number.number == EXAMINED:
        return "the model could not be evaluated"
    return f"{number.number}: found {found}, wanted {'at most' if number.at_most else 'at least'} {number.wanted:g}"


def _estimate(entry: ModelEntry, name: str) -> Estimate | None:
    if name == "p95_ms":
        p95 = entry.latency and entry.latency.p95_ms
        return None if p95 is None else Estimate(value=p95, low=p95, high=p95)
    return getattr(entry.against_teacher, name, None) if name in COMPARED else getattr(entry.metrics, name)


def _gate_number(name: str, estimate: Estimate | None, threshold: float, *, at_most: bool = False, passed: bool) -> GateNumber:
    value = None if estimate is None else estimate.value
    low, high = (estimate.low, estimate.high) if estimate and name != "p95_ms" else (None, None)
    return GateNumber(number=name, found=value, low=low, high=high, wanted=threshold, at_most=at_most, passed=passed)
