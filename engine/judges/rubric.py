"""A model that gives marks, read off the probabilities of the marks' tokens (G-Eval, Liu et al., 2023, section 2)."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.contract.judges import Dimension, RatedShot, Rubric
from engine.inference.engine import instruct
from engine.judges.judge_client import Question, Reading


class Case(NamedTuple):
    """One answer before the judge."""

    place: str  # its prompt's id
    text: str
    answer: str
    reference: str = ""
    task_unit: str = ""


def questions(rubric: Rubric, case: Case, *, wording: str = "{question}") -> list[Question]:
    """Return what is asked about an answer: one question, or one for each dimension. `wording` says the same in other words."""
    asked = wording.replace("{question}", rubric.by_task_unit.get(case.task_unit, rubric.question))
    return [_question(rubric, case, asked, dimension) for dimension in rubric.dimensions or (None,)]


def marks(rubric: Rubric, said: Sequence[Reading]) -> list[float | None]:
    """Return the expected mark of each question, 0 for the worst and 1 for the best; None where the judge cannot be read."""
    return [None if one.shares is None else _expected(one.shares) for one in said]


def score(rubric: Rubric, given: Sequence[float | None]) -> float | None:
    """Return the weighted mean of the dimensions' marks; None if one is missing."""
    weights = [one.weight for one in rubric.dimensions] or [1.0]
    return weighted(given, weights)


def weighted(values: Sequence[float | None], weights: Sequence[float]) -> float | None:
    """Return the weighted mean of `values`; None if one is missing."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return sum(value * weight for value, weight in zip(known, weights, strict=True)) / sum(weights)


def fill(question: str, values: Mapping[str, str]) -> str:
    """Return `question` with the names in braces replaced; the line of a `{reference}` that does not exist is left out."""
    lines = question.split("\n")
    if not values.get("reference"):
        lines = [line for line in lines if "{reference}" not in line]
    # All at once and not str.format: a mail or an answer may hold braces.
    places = re.compile("|".join(re.escape(f"{{{name}}}") for name in values))
    return places.sub(lambda found: values[found[0][1:-1]], "\n".join(lines))


def _question(rubric: Rubric, case: Case, asked: str, dimension: Dimension | None) -> Question:
    given = (dimension and dimension.scale) or rubric.scale
    if dimension:
        anchors = [f"{mark}: {dimension.anchors[mark]}" for mark in given if mark in dimension.anchors]
        asked = "\n".join([asked, "", dimension.question, *anchors])
    shots = [(_turn(asked, shot), _mark(shot, dimension)) for shot in rubric.shots]
    turn = [{"role": "user", "content": _turn(asked, case)}]
    return Question(case.place, instruct(turn, system=rubric.system, shots=shots), given)


def _turn(asked: str, case: Case | RatedShot) -> str:
    return fill(asked, {"text": case.text, "answer": case.answer, "reference": case.reference})


def _mark(shot: RatedShot, dimension: Dimension | None) -> str:
    return shot.rating if isinstance(shot.rating, str) else shot.rating[dimension.name if dimension else ""]


def _expected(shares: Sequence[float]) -> float:
    return sum(index * share for index, share in enumerate(shares)) / (len(shares) - 1)
