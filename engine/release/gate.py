"""The contract's numbers against a model's. Nothing passes silently: a number that is asked for and missing refuses."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.contract.evaluation import Gate

AT_MOST = {"ece", "p95_ms"}  # the others are asked as at least
COMPARED = {"retention", "retention_unseen"}

Entry = Mapping[str, Any]


def decide(models: Sequence[Entry], gate: Gate) -> dict[str, Any]:
    """Return the gate's word on every student among the entries of a report.

    Keys: `passing` (names, smallest first), `refusals` (student -> numbers that refused it), `numbers` (student -> every number
    that was asked), `winner` (the smallest that passes, or None). A number is {number, found, wanted, low, high, at_most, passed};
    `found` is None where the report has no such number.
    """
    students = sorted((m for m in models if m["role"] == "student"), key=_by_size)
    numbers = {student["name"]: list(weigh(student, gate)) for student in students}
    passing = [name for name, found in numbers.items() if all(number["passed"] for number in found)]
    failed = {name: [number for number in found if not number["passed"]] for name, found in numbers.items()}
    refusals = {name: found for name, found in failed.items() if found}
    return {"passing": passing, "refusals": refusals, "numbers": numbers, "winner": passing[0] if passing else None}


def weigh(entry: Entry, gate: Gate) -> Iterator[dict[str, Any]]:
    """Yield each number that `gate` asks for, with what the model's entry has to say to it."""
    if entry.get("error"):
        yield _number("examined", None, wanted=1.0, passed=False)
    for name, wanted in gate.model_dump(exclude={"beats"}, exclude_none=True).items():
        found = _find(entry, name)
        value = found and found["value"]
        passed = value is not None and (value <= wanted if name in AT_MOST else value >= wanted)
        yield _number(name, found, wanted=wanted, passed=passed)
    for baseline in gate.beats:
        found = entry["against_baselines"].get(baseline)
        passed = found is not None and found["low"] > 0
        yield _number(f"beats {baseline}", found, wanted=0.0, passed=passed)


def explain(number: Mapping[str, Any]) -> str:
    """Return one number of the gate as a sentence part, such as `retention: found 0.810, wanted at least 0.9`."""
    found = "nothing" if number["found"] is None else f"{number['found']:.3f}"
    if number["number"].startswith("beats "):
        low = "" if number["low"] is None else f" (interval from {number['low']:+.3f})"
        return f"{number['number']}: found a difference of {found}{low}, wanted one whose interval lies above 0"
    if number["number"] == "examined":
        return "examined: the model could not be asked"
    return f"{number['number']}: found {found}, wanted {'at most' if number['at_most'] else 'at least'} {number['wanted']:g}"


def _by_size(entry: Entry) -> tuple[float, str]:
    return (entry["parameters"] or float("inf"), entry["name"])


def _find(entry: Entry, name: str) -> Mapping[str, Any] | None:
    """A number of the gate as {value, low, high}, or None."""
    if name in COMPARED:
        return entry["against_teacher"] and entry["against_teacher"][name]
    if name == "p95_ms":
        return entry["latency"] and {"value": entry["latency"]["p95_ms"], "low": None, "high": None}
    return entry["metrics"][name]


def _number(name: str, found: Mapping[str, Any] | None, *, wanted: float, passed: bool) -> dict[str, Any]:
    keys = {"found": "value", "low": "low", "high": "high"}
    numbers = {key: found[source] if found else None for key, source in keys.items()}
    return {"number": name, **numbers, "wanted": wanted, "at_most": name in AT_MOST, "passed": passed}
