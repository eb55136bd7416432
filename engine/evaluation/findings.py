"""What a reader must know before believing the numbers, in sentences."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SMALL = 100  # prompts below which a holdout is called small
WIDE = 0.1  # width of an interval from which it is called wide
ENOUGH = 10  # prompts below which a slice is not spoken of
TAIL = 20  # timed prompts that the slowest 5 % need to be more than one

Entry = Mapping[str, Any]


def findings(
    models: Sequence[Entry], *, holdout: Mapping[str, int], gate: Mapping[str, Any], notes: Sequence[str] = (), level: float
) -> list[str]:
    """Return the sentences, gravest first. `notes` are the job's own, such as a judge that was never calibrated."""
    sure = f"{100 * level:g} % interval"
    said = [f"{m['name']} could not be examined: {m['error']}" for m in models if m["error"]]
    said += notes
    asked = [m for m in models if not m["error"]]
    said += _holdout(asked, holdout)
    for student in (m for m in asked if m["role"] == "student"):
        said += _against_teacher(student, sure)
        said += _against_baselines(student, sure)
        said += _use(student)
    for teacher in (m for m in asked if m["role"] == "teacher"):
        said += _teacher(teacher)
    said += _gate(gate, sure)
    return said


def _holdout(models: Sequence[Entry], holdout: Mapping[str, int]) -> Iterator[str]:
    if holdout["rows"] < SMALL:
        yield f"The holdout is small: {holdout['rows']} prompts."
    if holdout["unseen"] == 0:
        yield "Every scenario of the holdout occurs in training: nothing here says how the models do on new ones."
    elif holdout["unseen"] < SMALL:
        yield f"What is said of unseen scenarios rests on {holdout['unseen']} prompts."
    exact = {m["name"]: m["metrics"]["exact_match"] for m in models if m["metrics"]["exact_match"] and m["role"] != "baseline"}
    wide = [name for name, value in exact.items() if value["high"] - value["low"] > WIDE]
    if wide:
        yield f"The interval of exact match is wider than {100 * WIDE:g} points for {', '.join(wide)}."
    for name, value in exact.items():
        if value["value"] in (0.0, 1.0):
            side = "all" if value["value"] else "none"
            # With no failure in n trials the rate may still be 3 / n (95 %): the rule of three, Hanley and Lippman-Hand, 1983.
            off = f"yet the true rate may lie {3 / value['n']:.3f} off"
            yield f"{name} got {side} of {value['n']} right: its interval shows no width, {off}."


def _against_teacher(student: Entry, sure: str) -> Iterator[str]:
    gap = student["against_teacher"] and student["against_teacher"]["difference"]
    if not gap:
        return
    teacher = student["against_teacher"]["teacher"]
    where = f"{gap['value']:+.3f} exact match, {sure} {gap['low']:+.3f} to {gap['high']:+.3f}"
    if gap["high"] < 0:
        yield f"{student['name']} is worse than {teacher}: {where}."
    elif gap["low"] > 0:
        yield f"{student['name']} is better than {teacher}: {where}."
    else:
        yield f"{student['name']} and {teacher} cannot be told apart on this holdout: {where}."


def _against_baselines(student: Entry, sure: str) -> Iterator[str]:
    for name, gap in student["against_baselines"].items():
        if gap["low"] <= 0:
            yield (
                f"{student['name']} is not certain to beat the baseline {name}: {gap['value']:+.3f} exact match, "
                f"{sure} {gap['low']:+.3f} to {gap['high']:+.3f}."
            )


def _use(student: Entry) -> Iterator[str]:
    name, spent, latency = student["name"], student["cost"], student["latency"]
    if spent and spent["fallback_share"] > 0.5:
        yield f"{name} leaves {100 * spent['fallback_share']:.0f} % of the requests to the teacher."
    if latency and latency["n"] < TAIL:
        yield f"The 95th percentile of latency of {name} rests on {latency['n']} prompts."
    slices = [
        (found["exact_match"]["value"], dimension, value, found["n"])
        for dimension, values in student["slices"].items()
        for value, found in values.items()
        if found["n"] >= ENOUGH and found["exact_match"]
    ]
    whole = student["metrics"]["exact_match"]
    if slices and whole and min(slices)[0] < whole["value"] - WIDE:
        value, dimension, label, n = min(slices)
        yield f"{name} is weakest on {dimension} {label}: {value:.3f} exact match over {n} prompts."


def _teacher(teacher: Entry) -> Iterator[str]:
    for name, gap in teacher["against_baselines"].items():
        if gap["low"] <= 0:
            yield f"The baseline {name} may be as good as the teacher {teacher['name']}: a model may not be needed."


def _gate(gate: Mapping[str, Any], sure: str) -> Iterator[str]:
    for student in gate["passing"]:
        for number in gate["numbers"][student]:
            worst = number["high"] if number["at_most"] else number["low"]
            if worst is not None and (worst > number["wanted"] if number["at_most"] else worst < number["wanted"]):
                yield (
                    f"{student} passes the gate's {number['number']} by its point value {number['found']:.3f} only: "
                    f"its {sure} reaches {worst:.3f}, {number['wanted']} was asked."
                )
