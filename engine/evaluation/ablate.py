"""Training sets of equal size for an ablation of the filters: the same answers, filtered by more and more of what is known.

    all            every answer that finished with `stop`
    rules          answers that pass every check and whose prompt's samples agree as the contract requires
    without CHECK  `rules` without one check (`agreement` counts as a check)
    judge          the half of `rules` with the higher rubric score: a raw score has no threshold of its own
    calibrated     answers of `rules` whose confidence reaches `judges.accept.confidence`; with `judges.evidence` called `evidence`

One answer per prompt is used, drawn by hash among those that pass, so that a subset cannot profit from knowledge that its filter
does not use. All subsets have as many prompts as the smallest one, drawn by hash as well: they share as many prompts as they can,
which keeps the differences narrow.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import median
from typing import NamedTuple

from engine.contract.judges import Judges
from engine.rows import Row, content_id

AGREEMENT = "agreement"
SMALLEST_SHARE = 0.25  # of the prompts of `rules`: a smaller subset would shrink all others to its size


class AnswerFacts(NamedTuple):
    """What the filters read of one answer that finished with `stop`."""

    answer_id: str
    prompt_id: str
    failed: frozenset[str]
    """Failed checks; AGREEMENT if too few of the prompt's samples agree."""
    score: float | None
    confidence: float | None


class Subset(NamedTuple):
    """A training set, or the reason why it is left out."""

    name: str
    what: str
    answers: int
    """Answers that pass the filter."""
    prompts: int
    """Prompts of these answers."""
    chosen: tuple[str, ...] = ()
    """Sorted ids of the training answers, one per prompt; empty if the subset is left out."""
    left_out: str = ""
    """Why the subset is left out; "" if it is not."""

    @property
    def digest(self) -> str:
        """Hash of the training answers."""
        return content_id(*self.chosen)


class _Filter(NamedTuple):
    name: str
    what: str
    keeps: Callable[[AnswerFacts], bool]


def answer_facts(row: Row, section: Judges) -> AnswerFacts:
    """Return what the filters read of a CANDIDATE row."""
    failed = {check["check"] for check in row["checks"] or () if not check["passed"]}
    if not failed and row["agreement"] is not None and row["agreement"] < section.accept.agreement:
        failed = {AGREEMENT}
    return AnswerFacts(row["answer_id"], row["prompt_id"], frozenset(failed), row["score"], row["confidence"])


def subsets(answers: Iterable[AnswerFacts], section: Judges) -> list[Subset]:
    """Return every subset of `answers`: the distinct ones, of equal size, and those left out with the reason."""
    ordered = sorted(answers)
    filters = list(_filters(ordered, section))
    kept = [[answer for answer in ordered if each.keeps(answer)] for each in filters]
    rules = next(passing for each, passing in zip(filters, kept, strict=True) if each.name == "rules")
    smallest = SMALLEST_SHARE * _prompts(rules)
    candidates: list[Subset] = []
    first_with: dict[frozenset[str], str] = {}
    for each, passing in zip(filters, kept, strict=True):
        ids = frozenset(answer.answer_id for answer in passing)
        if ids in first_with:
            why = f"the same answers as {first_with[ids]}"
        else:
            why = "" if _prompts(passing) > smallest else "too few prompts"
        first_with.setdefault(ids, each.name)
        candidates.append(Subset(each.name, each.what, len(passing), _prompts(passing), left_out=why))
    size = min((subset.prompts for subset in candidates if not subset.left_out), default=0)
    return list(_draw(candidates, kept, size))


def _filters(answers: Sequence[AnswerFacts], section: Judges) -> Iterator[_Filter]:
    yield _Filter("all", "every answer that finished", lambda answer: True)
    yield _Filter("rules", "every check passes, and the samples agree", lambda answer: not answer.failed)
    for name in dict.fromkeys([*(check.title for check in section.checks), AGREEMENT]):
        yield _Filter(f"without {name}", f"rules without {name}", lambda answer, name=name: answer.failed <= {name})
    scores = [answer.score for answer in answers if not answer.failed and answer.score is not None]
    if scores:
        middle = median(scores)
        what = "rules, and the half with the higher rubric score"
        yield _Filter("judge", what, lambda answer: not answer.failed and (answer.score or 0) >= middle)
    threshold, has_confidence = section.accept.confidence, any(answer.confidence is not None for answer in answers)
    if has_confidence and section.calibrate and (scores or section.evidence):
        name, kind = ("evidence", "confidence from evidence") if section.evidence else ("calibrated", "calibrated confidence")
        what = f"rules, and a {kind} of at least {threshold:g}"
        yield _Filter(name, what, lambda answer: not answer.failed and (answer.confidence or 0) >= threshold)


def _draw(candidates: Sequence[Subset], kept: Sequence[Sequence[AnswerFacts]], size: int) -> Iterator[Subset]:
    """Yield each subset with its training answers; one whose draw equals an earlier one is left out."""
    first_with: dict[tuple[str, ...], str] = {}
    for subset, answers in zip(candidates, kept, strict=True):
        chosen = () if subset.left_out else _chosen(answers, size)
        if chosen in first_with and chosen:
            yield subset._replace(left_out=f"of {size} prompts the same answers as {first_with[chosen]}")
        else:
            first_with[chosen] = subset.name
            yield subset._replace(chosen=chosen)


def _chosen(answers: Sequence[AnswerFacts], size: int) -> tuple[str, ...]:
    """Return one answer for each of `size` prompts, both drawn by hash."""
    first: dict[str, str] = {}
    for answer in sorted(answers, key=lambda answer: content_id("answer", answer.answer_id)):
        first.setdefault(answer.prompt_id, answer.answer_id)
    prompts = sorted(first, key=lambda prompt: content_id("prompt", prompt))[:size]
    return tuple(sorted(first[prompt] for prompt in prompts))


def _prompts(answers: Sequence[AnswerFacts]) -> int:
    return len({answer.prompt_id for answer in answers})
