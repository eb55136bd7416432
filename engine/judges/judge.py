"""The rubrics of a contract together: scores of answers, dimension by dimension, and comparisons of two answers."""

from collections.abc import Sequence
from typing import NamedTuple

from engine.contract.judges import Ranking, Rubric
from engine.contract.renames import older_json
from engine.inference.engine import instruct
from engine.inference.identity import identity
from engine.judges import rubric as rubrics
from engine.judges.grader_spec import GraderSpec
from engine.judges.judge_client import ChoiceProbs, ChoiceRequest, JudgeClient
from engine.judges.rubric import Case
from engine.rows import Row, content_id


class RubricScore(NamedTuple):
    """Score of one answer."""

    score: float | None = None  # 0 to 1; None if unreadable
    dimension_scores: Sequence[Row] = ()  # rows.DIMENSION_SCORES
    rubric_spread: float | None = None  # largest less smallest score of the rubrics; None with fewer than two
    budget_exhausted: bool = False
    lost: bool = False  # a question was asked without an answer


class Pair(NamedTuple):
    """Two answers to one prompt."""

    case: Case  # the first one's
    second: str


class Judge:
    """The rubrics of a contract; those with the same model share one engine."""

    def __init__(self, spec: GraderSpec) -> None:
        self.spec, self.section = spec, spec.section
        self.rubrics = self.section.rubrics
        clients = {rubric.name: JudgeClient(spec.clients[rubric.name]) for rubric in self.rubrics}
        by_identity = {judge.client.identity: judge for judge in clients.values()}
        self.clients = {name: by_identity[judge.client.identity] for name, judge in clients.items()}

    @property
    def name(self) -> str:
        """Value of the column `judge`."""
        return "+".join(rubric.name for rubric in self.rubrics) or "evidence"

    @property
    def identity(self) -> str:
        """Hash of the models and of all that their prompts are made of; the rubrics' names are left out."""
        parts = []
        for rubric in self.rubrics:
            prompt = older_json(rubric, "judges.rubrics.*", exclude=("model", "name"))
            parts += [self.clients[rubric.name].client.identity, prompt]
        return content_id(*parts, self.section.ranking and older_json(self.section.ranking, "judges.ranking"), *self._evidence())

    def _evidence(self) -> list[str]:
        """All that the evidence depends on besides the labelled items; [] without any."""
        evidence = self.spec.evidence
        if evidence is None:
            return []
        readers = [
            content_id(
                identity(reader.client.model, reader.client.weights), name, reader.teacher.model_dump_json(exclude={"model"})
            )
            for name, reader in (*evidence.teachers.items(), *evidence.readers.items())
        ]
        return [
            evidence.section.model_dump_json(exclude={"readers"}),
            *(check.model_dump_json() for check in self.section.checks),
            *readers,
        ]

    def score(self, cases: Sequence[Case], *, wording: str = "{question}", capped: bool = True) -> list[RubricScore]:
        """Return the score of each answer over all rubrics. `wording` rewords the question; `capped` obeys the budget."""
        by_rubric = [self._scores(rubric, cases, wording=wording, capped=capped) for rubric in self.rubrics]
        return [self._combined(scores) for scores in zip(*by_rubric, strict=True)]

    def _scores(self, rubric: Rubric, cases: Sequence[Case], *, wording: str, capped: bool) -> list[RubricScore]:
        requests = [request for case in cases for request in rubrics.requests(rubric, case, wording=wording)]
        replies = self.clients[rubric.name](requests, payee=rubric.name, capped=capped)
        width = len(rubric.dimensions) or 1
        return [_rubric_score(rubric, replies[start : start + width]) for start in range(0, len(replies), width)]

    def _combined(self, by_rubric: Sequence[RubricScore]) -> RubricScore:
        scores = [scored.score for scored in by_rubric]
        score = rubrics.weighted(scores, [rubric.weight for rubric in self.rubrics])
        readable = [value for value in scores if value is not None]
        spread = max(readable) - min(readable) if len(readable) > 1 else None
        dimensions = [dimension for scored in by_rubric for dimension in scored.dimension_scores]
        exhausted, lost = (any(each) for each in zip(*((one.budget_exhausted, one.lost) for one in by_rubric), strict=True))
        return RubricScore(score, dimensions, spread, exhausted, lost)

    def compare(self, pairs: Sequence[Pair], *, capped: bool = True) -> list[ChoiceProbs]:
        """Return for each pair the probabilities that the first is better, that the second is, and that neither is."""
        ranking, rubric = self.section.ranking, self.section.ranker
        assert ranking and rubric
        requests = [_comparison(ranking, rubric, pair) for pair in pairs]
        return self.clients[rubric.name](requests, payee=rubric.name, capped=capped)


def _rubric_score(rubric: Rubric, replies: Sequence[ChoiceProbs]) -> RubricScore:
    scores = rubrics.dimension_scores(replies)
    names = [dimension.name for dimension in rubric.dimensions] or [""]
    budget_exhausted = any(reply.budget_exhausted for reply in replies)
    rows = [{"rubric": rubric.name, "dimension": name, "score": score} for name, score in zip(names, scores, strict=True)]
    lost = any(reply.lost for reply in replies)
    return RubricScore(rubrics.score(rubric, scores), [] if budget_exhausted else rows, None, budget_exhausted, lost)


def _comparison(ranking: Ranking, rubric: Rubric, pair: Pair) -> ChoiceRequest:
    question = ranking.by_task_unit.get(pair.case.task_unit, ranking.question)

    def turn(text: str, first: str, second: str, reference: str) -> str:
        return rubrics.fill(question, {"text": text, "first": first, "second": second, "reference": reference})

    shots = [(turn(shot.text, shot.first, shot.second, shot.reference), shot.label) for shot in ranking.shots]
    last = turn(pair.case.text, pair.case.answer, pair.second, pair.case.reference)
    chat = instruct([{"role": "user", "content": last}], system=rubric.system, shots=shots)
    return ChoiceRequest(pair.case.prompt_id, chat, ranking.labels)
