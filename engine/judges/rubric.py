"""A rubric's prompts, and its score: the expected value over the token probabilities (G-Eval, Liu et al., 2023, section 2)."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.contract.judges import Dimension, RatedShot, Rubric
from engine.inference.engine import instruct
from engine.judges.judge_client import ChoiceProbs, ChoiceRequest


class Case(NamedTuple):
    """One answer to be judged."""

    prompt_id: str
    text: str
    answer: str
    reference: str = ""
    task_unit: str = ""


def requests(rubric: Rubric, case: Case, *, wording: str = "{question}") -> list[ChoiceRequest]:
    """Return the judge's prompts for an answer: one, or one for each dimension. `wording` rewords the question."""
    question = wording.replace("{question}", rubric.by_task_unit.get(case.task_unit, rubric.question))
    return [_request(rubric, case, question, dimension) for dimension in rubric.dimensions or (None,)]


def dimension_scores(replies: Sequence[ChoiceProbs]) -> list[float | None]:
    """Return the expected value of each reply, 0 for the worst choice and 1 for the best; None where it is unreadable."""
    return [None if reply.probs is None else _expected(reply.probs) for reply in replies]


def score(rubric: Rubric, scores: Sequence[float | None]) -> float | None:
    """Return the weighted mean of the dimensions' scores; None if one is missing."""
    return weighted(scores, [dimension.weight for dimension in rubric.dimensions] or [1.0])


def weighted(values: Sequence[float | None], weights: Sequence[float]) -> float | None:
    """Return the weighted mean of `values`; None if one is missing."""
    products = [value * weight for value, weight in zip(values, weights, strict=True) if value is not None]
    return sum(products) / sum(weights) if len(products) == len(values) else None


def fill(question: str, values: Mapping[str, str]) -> str:
    """Return `question` with the names in braces replaced. A line with `{reference}` is dropped if there is no reference."""
    lines = question.split("\n")
    if not values.get("reference"):
        lines = [line for line in lines if "{reference}" not in line]
    # One pass and not str.format: a mail or an answer may hold braces.
    names = re.compile("|".join(re.escape(f"{{{name}}}") for name in values))
    return names.sub(lambda match: values[match[0][1:-1]], "\n".join(lines))


def _request(rubric: Rubric, case: Case, question: str, dimension: Dimension | None) -> ChoiceRequest:
    choices = (dimension and dimension.scale) or rubric.scale
    if dimension:
        anchors = [f"{choice}: {dimension.anchors[choice]}" for choice in choices if choice in dimension.anchors]
        question = "\n".join([question, "", dimension.question, *anchors])
    shots = [(_turn(question, shot), _rating(shot, dimension)) for shot in rubric.shots]
    turn = [{"role": "user", "content": _turn(question, case)}]
    return ChoiceRequest(case.prompt_id, instruct(turn, system=rubric.system, shots=shots), choices)


def _turn(question: str, case: Case | RatedShot) -> str:
    return fill(question, {"text": case.text, "answer": case.answer, "reference": case.reference})


def _rating(shot: RatedShot, dimension: Dimension | None) -> str:
    return shot.rating if isinstance(shot.rating, str) else shot.rating[dimension.name if dimension else ""]


def _expected(probs: Sequence[float]) -> float:
    return sum(index * prob for index, prob in enumerate(probs)) / (len(probs) - 1)
