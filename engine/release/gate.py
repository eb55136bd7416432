"""Decides which students meet the contract: the only place that does.

A requirement has one of three words. With the one-sided tests of `engine/evaluation/requirements.py` at `gate.level`:

    pass        proven: "it is not met" is rejected, so the lower end of the interval is at or above the threshold
    refuse      disproven: "it is met" is rejected, so the upper end is below it; or the number was not measured
    undecided   neither: the threshold lies within the interval

A student passes if all of its requirements pass: an intersection-union test, in which each is tested at the full level (Berger,
Technometrics 24, 1982). It is refused if one is refused. Over several students the level holds for the whole family: by the fixed
sequence from the largest to the smallest, which stops at the first that does not pass (Maurer, Hothorn and Lehmacher, 1995), or by
Holm's procedure. A refusal is not corrected for the number of students: it costs nobody a champion.

A number that a report of an earlier version has not tested is undecided; one that was not measured refuses the student.
"""

from collections.abc import Iterator, Mapping, Sequence

from engine.contract.gate import Gate
from engine.records.estimate import Estimate
from engine.records.gate import (
    AT_MOST,
    BEATS,
    CHAMPION,
    EXAMINED,
    SLICES,
    TWIN,
    UNHELD,
    Confirmation,
    GateDecision,
    GateNumber,
    RequirementTest,
    Word,
)  # fmt: skip
from engine.records.report import ModelEntry
from engine.release import point
from engine.stats.multiple import holm

Numbers = Mapping[str, tuple[GateNumber, ...]]
"""Student -> its requirements."""
UNTESTED = "the report was made before the gate tested this"
OUTSIDE = {  # of Gate: no requirements
    "beats", "hurt_by", "champion", "slices", "by", "level", "students", "choose", "confirm", "detect", "power",
}  # fmt: skip


def decide(
    models: Sequence[ModelEntry], gate: Gate, *, by_point: bool = False, confirmation: Confirmation | None = None
) -> GateDecision:
    """Return the decision on every student and export among `models`; the smallest has the fewest bytes of weights.

    `by_point`: decide by point values, whatever the contract says. `confirmation`: what the closed part of the holdout said.
    """
    students = by_size([model for model in models if model.role == "student"])
    if by_point or gate.by == "point":
        numbers = {student.name: tuple(point.numbers(student, thresholds(student, gate))) for student in students}
        words: dict[str, Word] = {name: "pass" if all(each.passed for each in of) else "refuse" for name, of in numbers.items()}
        return _decision(numbers, words, GateDecision(by="point"), _cheapest_first(students, gate))
    numbers = {student.name: tuple(_proven(student, gate)) for student in students}
    words = {name: word_of(of) for name, of in numbers.items()}
    because = _stopped(students, numbers, words) if gate.students == "fixed_sequence" else _held(numbers, words, gate)
    words |= dict.fromkeys(because, "undecided")
    if confirmation:
        open_only = _unconfirmed(words, confirmation)
        words |= {name: confirmation.word if name == confirmation.student else "undecided" for name in open_only}
        because |= open_only
    start = GateDecision(by="prove", level=gate.level, because=because, confirmation=confirmation)
    return _decision(numbers, words, start, _cheapest_first(students, gate))


def by_size(students: Sequence[ModelEntry]) -> list[ModelEntry]:
    """Return the students, the one with the fewest bytes of weights first."""
    inf = float("inf")  # a report of an earlier version has no bytes
    return sorted(students, key=lambda student: (student.weight_bytes or inf, student.parameters or inf, student.name))


def _cheapest_first(students: Sequence[ModelEntry], gate: Gate) -> list[str]:
    """Return the names in the order in which a passing one is chosen."""
    if gate.choose == "smallest":
        return [student.name for student in students]

    def price(student: ModelEntry) -> float:
        found = student.cost and student.cost.per_1000_accepted
        return float("inf") if found is None else found

    return [student.name for student in sorted(students, key=price)]


def _decision(numbers: Numbers, words: Mapping[str, Word], start: GateDecision, order: Sequence[str]) -> GateDecision:
    def of(word: Word, wanted: Word) -> dict[str, tuple[GateNumber, ...]]:
        return {
            name: tuple(each for each in numbers[name] if (each.word or ("pass" if each.passed else "refuse")) == wanted)
            for name, own in words.items()
            if own == word
        }

    passing = tuple(name for name, word in words.items() if word == "pass")
    update = {
        "passing": passing,
        "refusals": of("refuse", "refuse"),
        "undecided": of("undecided", "undecided"),
        "numbers": dict(numbers),
        "winner": next((name for name in order if name in passing), None),
        "words": dict(words),
    }
    return start.model_copy(update=update)


def _stopped(students: Sequence[ModelEntry], numbers: Numbers, words: Mapping[str, Word]) -> dict[str, str]:
    """Return the passing students that come after the end of the sequence -> why.

    A student that a requirement refuses which reads no answer to the holdout (its size, its latency) has no place in the sequence.
    """
    because, stop = {}, None
    for student in reversed(students):
        name = student.name
        if stop and words[name] == "pass":
            because[name] = f"{stop} is larger and does not pass, which ends the sequence of tests."
        outside = any(each.word == "refuse" and each.number in UNHELD for each in numbers[name])
        if words[name] != "pass" and not outside:
            stop = stop or name
    return because


def _held(numbers: Numbers, words: Mapping[str, Word], gate: Gate) -> dict[str, str]:
    """Return the students that pass alone, but not among all of them -> why."""
    largest = {name: max((each.p or 0.0 for each in of), default=0.0) for name, of in numbers.items()}
    p_values = {name: value if words[name] == "pass" else 1.0 for name, value in largest.items()}
    passing = holm(p_values, gate.level)
    why = f"alone it would pass, but not among {len(numbers)} students by Holm's procedure."
    return {name: why for name, word in words.items() if word == "pass" and name not in passing}


def _unconfirmed(words: Mapping[str, Word], confirmation: Confirmation) -> dict[str, str]:
    """Return the students that pass on the open part, and that the closed one does not confirm -> why."""
    because = {}
    for name in (name for name, word in words.items() if word == "pass"):
        if name != confirmation.student:
            because[name] = "it was not looked at on the part of the holdout kept for confirmation, which another student had."
        elif confirmation.word != "pass":
            because[name] = f"on the part of the holdout kept for confirmation it is: {confirmation.word}."
    return because


def word_of(numbers: Sequence[GateNumber]) -> Word:
    """Return the word of a student from those of its requirements."""
    words = [number.word for number in numbers]
    return "refuse" if "refuse" in words else "undecided" if "undecided" in words else "pass"


def thresholds(entry: ModelEntry, gate: Gate) -> dict[str, float]:
    """Return requirement -> threshold, of all that `gate` wants of this student."""
    wanted: dict[str, float] = gate.model_dump(exclude=OUTSIDE, exclude_none=True)
    wanted |= {f"{BEATS}{baseline}": 0.0 for baseline in gate.beats}
    if gate.hurt_by and (twin := gate.hurt_by.twins.get(entry.name)):
        wanted[f"{TWIN}{twin}"] = -gate.hurt_by.at_most
    if gate.champion is not None:
        wanted[CHAMPION] = -gate.champion
    if gate.slices:
        wanted[SLICES] = 0.0
    return wanted


def _proven(entry: ModelEntry, gate: Gate) -> Iterator[GateNumber]:
    """Yield each requirement of `gate` with its test and its word."""
    if entry.error:
        yield GateNumber(number=EXAMINED, wanted=1.0, word="refuse")
    tests = entry.tests or {}
    for name, threshold in thresholds(entry, gate).items():
        test = tests.get(name)
        if test and name not in (CHAMPION, SLICES) and test.wanted != threshold:
            test = None  # of another contract
        if test:
            yield _number(name, threshold, test, gate.level)
            continue
        found = None if entry.tests is not None else point.estimate_of(entry, name)
        yield _missing(name, threshold) if found is None or entry.error else _untested(name, threshold, found)


def _number(name: str, threshold: float, test: RequirementTest, level: float) -> GateNumber:
    word: Word = "pass" if test.p_pass <= level else "refuse" if test.p_refuse <= level else "undecided"
    return GateNumber(
        number=name, found=test.value, low=test.low, high=test.high, wanted=threshold, at_most=name in AT_MOST,
        passed=word == "pass", word=word, n=test.n, clusters=test.clusters, design_effect=test.design_effect,
        p=test.p_refuse if word == "refuse" else test.p_pass, more=test.more if word == "undecided" else None,
        method=test.method, detail=test.detail,
    )  # fmt: skip


def _untested(name: str, threshold: float, found: Estimate) -> GateNumber:
    return GateNumber(
        number=name, found=found.value, low=found.low, high=found.high, wanted=threshold, at_most=name in AT_MOST,
        word="undecided", n=found.n, detail=UNTESTED,
    )  # fmt: skip


def _missing(name: str, threshold: float) -> GateNumber:
    return GateNumber(number=name, wanted=threshold, at_most=name in AT_MOST, word="refuse")
