"""The rubrics together: what they say of an answer, dimension by dimension, and of two answers side by side."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from engine.contract.judges import Ranking, Rubric
from engine.contract.renames import older_json
from engine.inference.engine import instruct
from engine.judges import rubric as rubrics
from engine.judges.grader_spec import GraderSpec
from engine.judges.judge_client import JudgeClient, Question, Reading
from engine.judges.rubric import Case
from engine.rows import content_id


class RubricScore(NamedTuple):
    """What the judge says of one answer."""

    score: float | None = None  # 0 to 1; None if it cannot be read
    marks: Sequence[dict[str, Any]] = ()  # rows.DIMENSION_SCORES
    rubric_spread: float | None = None  # largest less smallest score of the rubrics; None with fewer than two
    budget_exhausted: bool = False


class Pair(NamedTuple):
    """Two answers to one prompt."""

    case: Case  # the first one's
    second: str


class Judge:
    """The rubrics of a contract; those of the same model share one engine."""

    def __init__(self, bar: GraderSpec) -> None:
        self.bar, self.section = bar, bar.section
        self.rubrics = self.section.rubrics
        askers = {rubric.name: JudgeClient(bar, rubric) for rubric in self.rubrics}
        one_each = {asker.till.identity: asker for asker in askers.values()}
        self.askers = {name: one_each[asker.till.identity] for name, asker in askers.items()}

    @property
    def name(self) -> str:
        """What the column `judge` says."""
        return "+".join(rubric.name for rubric in self.rubrics)

    @property
    def identity(self) -> str:
        """Hash of the models and of all that they are told but for their names."""
        told = [
            (self.askers[one.name].till.identity, older_json(one, "judges.rubrics.*", exclude=("model", "name")))
            for one in self.rubrics
        ]
        return content_id(
            *(part for pair in told for part in pair), self.section.ranking and older_json(self.section.ranking, "judges.ranking")
        )

    def mark(self, cases: Sequence[Case], *, wording: str = "{question}", capped: bool = True) -> list[RubricScore]:
        """Return what the rubrics say of each answer, asked in the given wording."""
        by_rubric = [self._scores(rubric, cases, wording=wording, capped=capped) for rubric in self.rubrics]
        return [self._together(said) for said in zip(*by_rubric, strict=True)]

    def _scores(self, rubric: Rubric, cases: Sequence[Case], *, wording: str, capped: bool) -> list[RubricScore]:
        each = [rubrics.questions(rubric, case, wording=wording) for case in cases]
        said = self.askers[rubric.name]([one for asked in each for one in asked], payee=rubric.name, capped=capped)
        width = len(rubric.dimensions) or 1
        return [_marked(rubric, said[start : start + width]) for start in range(0, len(said), width)]

    def _together(self, said: Sequence[RubricScore]) -> RubricScore:
        scores = [one.score for one in said]
        score = rubrics.weighted(scores, [rubric.weight for rubric in self.rubrics])
        known = [one for one in scores if one is not None]
        apart = max(known) - min(known) if len(known) > 1 else None
        return RubricScore(score, [mark for one in said for mark in one.marks], apart, any(one.budget_exhausted for one in said))

    def compare(self, pairs: Sequence[Pair], *, capped: bool = True) -> list[Reading]:
        """Return for each pair the probabilities that the first is better, that the second is, and that neither is."""
        ranking, rubric = self.section.ranking, self.section.ranker
        assert ranking and rubric
        return self.askers[rubric.name]([_side_by_side(ranking, rubric, pair) for pair in pairs], payee=rubric.name, capped=capped)


def _marked(rubric: Rubric, said: Sequence[Reading]) -> RubricScore:
    given = rubrics.marks(rubric, said)
    names = [one.name for one in rubric.dimensions] or [""]
    budget_exhausted = any(one.budget_exhausted for one in said)
    marks = [{"rubric": rubric.name, "dimension": name, "score": mark} for name, mark in zip(names, given, strict=True)]
    return RubricScore(rubrics.score(rubric, given), [] if budget_exhausted else marks, None, budget_exhausted)


def _side_by_side(ranking: Ranking, rubric: Rubric, pair: Pair) -> Question:
    asked = ranking.by_task_unit.get(pair.case.task_unit, ranking.question)

    def turn(text: str, first: str, second: str, reference: str) -> str:
        return rubrics.fill(asked, {"text": text, "first": first, "second": second, "reference": reference})

    shots = [(turn(shot.text, shot.first, shot.second, shot.reference), shot.label) for shot in ranking.shots]
    last = turn(pair.case.text, pair.case.answer, pair.second, pair.case.reference)
    return Question(
        pair.case.place, instruct([{"role": "user", "content": last}], system=rubric.system, shots=shots), ranking.labels
    )
