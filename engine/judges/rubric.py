"""A model that gives marks, read off the probabilities of the marks' tokens (G-Eval, Liu et al., 2023, section 2)."""

from collections.abc import Sequence

from engine.contract.judges import Rubric
from engine.models.base import Chat, Engine, instruct


def chat(rubric: Rubric, text: str, answer: str) -> Chat:
    """Return the judge's conversation about `answer` to the prompt `text`."""
    shots = [(fill(rubric.question, shot.text, shot.answer), shot.mark) for shot in rubric.shots]
    return instruct([{"role": "user", "content": fill(rubric.question, text, answer)}], system=rubric.system, shots=shots)


def score(engine: Engine, rubric: Rubric, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
    """Return the expected mark of each (text, answer), 0 for the worst and 1 for the best; None where the judge cannot be read."""
    marks = engine.choose([chat(rubric, text, answer) for text, answer in pairs], rubric.marks)
    best = len(rubric.marks) - 1
    return [None if shares is None else sum(i * share for i, share in enumerate(shares)) / best for shares in marks]


def fill(question: str, text: str, answer: str) -> str:
    """Return `question` with `{text}` and `{answer}` filled in."""
    # Not str.format: a mail or an answer may hold braces.
    head, _, tail = question.partition("{text}")
    before, _, after = tail.partition("{answer}")
    return f"{head}{text}{before}{answer}{after}"
