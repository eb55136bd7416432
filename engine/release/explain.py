"""Requirements of the gate and its decision in plain sentences, for the console, the card and errors."""

from collections.abc import Iterator

from engine.records.gate import AT_MOST, BEATS, CHAMPION, EXAMINED, SLICES, TWIN, GateDecision, GateNumber
from engine.stats.power import MOST


def explain(number: GateNumber) -> str:
    """Return one requirement as a phrase, such as `retention: found 0.810 (0.740 to 0.870), wanted at least 0.9`."""
    return _fact(number) + _more(number)


def _fact(number: GateNumber) -> str:
    name = number.number
    if name == EXAMINED:
        return "the model could not be evaluated"
    if name == SLICES:
        return f"{name}: {number.detail or 'not measured'}"
    if number.word == "pass" and number.found is None:
        return f"{name}: {number.detail}"
    if name.startswith((BEATS, TWIN)) or name == CHAMPION:
        return f"{name}: {_difference(number)}"
    wanted = f"wanted {'at most' if name in AT_MOST else 'at least'} {number.wanted:g}"
    return f"{name}: found {_value(number)}{_interval(number, '.3f')}, {wanted}"


def _difference(number: GateNumber) -> str:
    if number.number.startswith(BEATS) and number.word is None:
        found = "nothing" if number.found is None else f"{number.found:.3f}"
        low = "" if number.low is None else f" (interval from {number.low:+.3f})"
        return f"found a difference of {found}{low}, wanted one whose interval lies above 0"
    wanted = "above 0" if number.number.startswith(BEATS) else f"at least {number.wanted:+g}"
    return f"found a difference of {_value(number)}{_interval(number, '+.3f')} in exact match, wanted {wanted}"


def _value(number: GateNumber) -> str:
    if number.found is None:
        return "nothing"
    return f"{number.found:.0f}" if number.number in ("parameters", "weight_bytes") else f"{number.found:.3f}"


def _interval(number: GateNumber, write: str) -> str:
    """Return the interval of a tested number in brackets, with what it rests on; nothing by point values."""
    if number.word is None or number.low is None or number.high is None:
        return ""
    rests = f"; {number.clusters} clusters" if number.clusters and number.clusters < number.n else ""
    return f" ({number.low:{write}} to {number.high:{write}}{f', n {number.n}' if number.n else ''}{rests})"


def _more(number: GateNumber) -> str:
    if number.word != "undecided":
        return ""
    if number.detail:
        return f"; undecided: {number.detail}"
    what = "timed requests" if number.number == "p95_ms" else "independent prompts"
    return "; undecided" + (
        f": about {number.more:,} further {what} would decide" if number.more else f", and {MOST:,} further {what} would not decide"
    )


def undecided_lines(decision: GateDecision, name: str) -> Iterator[str]:
    """Yield why a student is undecided, a line for each reason."""
    yield from (explain(number) for number in decision.undecided.get(name, ()))
    if decision.because.get(name):
        yield decision.because[name]
