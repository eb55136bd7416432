"""Numbers about one answer that tell how likely it is right. All are computed without a call of a model.

A log-probability enters as -log(-x): the log odds of being right are close to linear in the logarithm of the surprise, not in the
surprise itself, of which the unlikely answers have a hundred times more than the likely ones.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from json.decoder import WHITESPACE
from typing import NamedTuple

from engine.checks import CheckResult
from engine.contract.evidence import Kind
from engine.inference.token_logprobs import DIGITS, UNKNOWN
from engine.rows import Row

LEAST_SURPRISE = 1e-3  # nats; below, a bfloat16 log-probability is rounding alone
NAME = ":"  # between a kind and the part of it that a number is of


class Seen(NamedTuple):
    """An answer of a run, or a labelled one, as its evidence is computed from it."""

    answer: str
    fields: Sequence[str] = ()  # properties of the schema of its task unit
    checks: Sequence[CheckResult] = ()
    tokens: Sequence[Row] | None = None  # rows.TOKEN_LOGPROBS
    logprob: float | None = None  # sum, where `tokens` is None
    tokens_out: int = 0
    agreement: float | None = None  # share of its teacher's samples that are equal to it
    teachers: float | None = None  # share of the other teachers that are
    distance: float | None = None  # of its prompt to the nearest labelled one, 0 to 1


def features(kinds: Sequence[Kind], seen: Seen) -> dict[str, float]:
    """Return name -> number for each of `kinds`, in their order; what is unknown of the answer is left out."""
    numbers = ((name, value) for kind in kinds for name, value in FUNCTIONS[kind](seen))
    return {name: float(value) for name, value in numbers if value is not None and math.isfinite(value)}


def of_rubrics(dimension_scores: Sequence[Row]) -> dict[str, float]:
    """Return name -> score of each dimension of each rubric (rows.DIMENSION_SCORES); unreadable ones are left out."""
    names = [NAME.join(filter(None, ["rubric", row["rubric"], row["dimension"]])) for row in dimension_scores]
    return {name: row["score"] for name, row in zip(names, dimension_scores, strict=True) if row["score"] is not None}


def of_reader(name: str, tokens: Sequence[Row] | None) -> dict[str, float]:
    """Return name -> number of what a reader reads in the answer; {} if it could not be read."""
    return {f"reader{NAME}{name}": surprise(sum(exact(tokens)))} if tokens else {}


def exact(tokens: Sequence[Row]) -> list[float]:
    """Return the log-probabilities as they were rounded: tables hold them as float32."""
    return [round(token["logprob"], DIGITS) for token in tokens]


def surprise(logprob: float) -> float:
    """Return -log of the surprise of a log-probability in nats: the higher, the likelier."""
    return -math.log(max(-logprob, LEAST_SURPRISE))


def kind_of(name: str) -> str:
    """Return the kind of evidence that a number belongs to: `rubric:NAME:DIMENSION` to `rubric:NAME`, `KIND:PART` to `KIND`."""
    parts = name.split(NAME)
    return NAME.join(parts[:2]) if parts[0] in ("rubric", "reader") else parts[0]


def is_dear(name: str) -> bool:
    """Whether a number takes a call of a model for each answer."""
    return name.startswith((f"rubric{NAME}", f"reader{NAME}"))


def value_spans(answer: str) -> dict[str, tuple[int, int]]:
    """Return field -> start and end of its value in the JSON object `answer`; {} if it is none; of a repeated field the last."""
    try:
        return dict(_members(answer))
    except (ValueError, IndexError, RecursionError):
        return {}


def _members(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    decoder = json.JSONDecoder()

    def skip(at: int) -> int:
        found = WHITESPACE.match(text, at)
        return found.end() if found else at

    at = skip(0)
    if text[at] != "{":
        raise ValueError("no object")
    while text[at] in "{,":
        key, at = decoder.raw_decode(text, skip(at + 1))
        start = skip(skip(at) + 1)
        _, at = decoder.raw_decode(text, start)
        yield str(key), (start, at)
        at = skip(at)


def _logprob(seen: Seen) -> Iterator[tuple[str, float | None]]:
    total = _sum(seen)
    yield "logprob", None if total is None else surprise(total)


def _mean_logprob(seen: Seen) -> Iterator[tuple[str, float | None]]:
    total, count = _sum(seen), len(seen.tokens) if seen.tokens else seen.tokens_out
    yield "mean_logprob", None if total is None or not count else surprise(total / count)


def _least_logprob(seen: Seen) -> Iterator[tuple[str, float | None]]:
    yield "least_logprob", surprise(min(exact(seen.tokens))) if seen.tokens else None


def _field_logprobs(seen: Seen) -> Iterator[tuple[str, float | None]]:
    for field, value in _fields(seen).items():
        yield f"field_logprobs{NAME}{field}", value


def _least_field(seen: Seen) -> Iterator[tuple[str, float | None]]:
    """An answer is right only if all of its fields are."""
    yield "least_field", min(_fields(seen).values(), default=None)


def _fields(seen: Seen) -> dict[str, float]:
    """Return field -> number of its value; {} if it is unknown which tokens are its.

    A token that reaches into a value belongs to it: some tokens hold a quotation mark and the first letters.
    """
    if not seen.tokens or seen.tokens[0]["end"] == UNKNOWN:
        return {}
    spans = value_spans(seen.answer)
    return {field: surprise(_between(seen.tokens, *spans[field])) for field in seen.fields if field in spans}


def _between(tokens: Sequence[Row], start: int, end: int) -> float:
    begins = [0, *(token["end"] for token in tokens[:-1])]
    each = zip(tokens, begins, exact(tokens), strict=True)
    return sum(logprob for token, begin, logprob in each if begin < end and token["end"] > start)


def _checks(seen: Seen) -> Iterator[tuple[str, float | None]]:
    """A check that passed with a note has compared less than it should, and counts half."""
    marks = [0.0 if not check.passed else 0.5 if check.detail else 1.0 for check in seen.checks]
    yield "checks", sum(marks) / len(marks) if marks else None


def _sum(seen: Seen) -> float | None:
    return sum(exact(seen.tokens)) if seen.tokens else seen.logprob


FUNCTIONS: Mapping[Kind, Callable[[Seen], Iterator[tuple[str, float | None]]]] = {
    "logprob": _logprob,
    "mean_logprob": _mean_logprob,
    "least_logprob": _least_logprob,
    "field_logprobs": _field_logprobs,
    "least_field": _least_field,
    "agreement": lambda seen: iter([("agreement", seen.agreement)]),
    "teachers": lambda seen: iter([("teachers", seen.teachers)]),
    "checks": _checks,
    "distance": lambda seen: iter([("distance", seen.distance)]),
    "length": lambda seen: iter([("length", math.log1p(len(seen.answer)))]),
}
"""Kind -> its numbers: yields (name, value or None)."""
