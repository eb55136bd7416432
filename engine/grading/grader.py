"""One block of answers: checks, agreement, rubric scores, confidence and pool. ANSWER in, CANDIDATE out.

The judge's replies are paid once and kept in the ledger (`engine.judges`).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
import pyarrow as pa

from engine.calibration import judge_calibration
from engine.calibration.curve import probabilities
from engine.checks import CheckInput, CheckResult, run_checks
from engine.evidence.confidence import Answer, Confidence, Judged
from engine.grading.agreement import agreement
from engine.grading.cross_teacher import merge_answers, other_teachers, relate_teachers
from engine.grading.rank import competitors, outranked, strengths
from engine.grading.relations import Relation
from engine.grading.routing import Evidence, confidence_tier, is_sound, route
from engine.judges.grader_spec import GraderSpec
from engine.judges.judge import Judge, Pair, RubricScore
from engine.judges.rubric import Case
from engine.records.judge import JudgeCalibration
from engine.rows import ANSWER, CANDIDATE, Row

NOT_JUDGED = Judged(RubricScore(), None)


class Grader:
    """ANSWER in, CANDIDATE out; all answers to a prompt must come in one block."""

    def __init__(self, spec: GraderSpec) -> None:
        self.spec = spec
        self.judge = Judge(spec) if spec.has_judge else None
        self.fused = Confidence(self.judge) if self.judge and spec.evidence else None

    def __call__(self, answers: pa.Table) -> pa.Table:
        rows = answers.select(ANSWER.names).to_pylist()
        outcomes = [self._check(row) for row in rows]
        sound = [is_sound(row["finish_reason"], checked) for row, checked in zip(rows, outcomes, strict=True)]
        agreements = agreement([row["prompt_id"] + row["teacher"] for row in rows], [row["answer"] for row in rows], sound)
        is_scored = [passed or self._is_audited(row) for passed, row in zip(sound, rows, strict=True)]
        scores = self._judge_columns(self._answers(rows, outcomes, agreements, sound), is_scored)
        pools = self.spec.section.pools
        relations = relate_teachers(rows, sound, pools.relations)
        graded = []
        for index, row in enumerate(rows):
            checks = [outcome._asdict() for outcome in outcomes[index]]
            columns = {"checks": checks, "agreement": agreements[index], **scores[index]}
            evidence = self._evidence(row | columns, outcomes[index], relations[index])
            trusted = columns["confidence"] if columns["judge_decides"] else None
            pool, reasons = route(evidence, self.spec.section.accept, pools)
            of_pool = {"relation": relations[index].relation, "confidence_tier": confidence_tier(trusted, pools), "parents": []}
            graded.append({**row, **columns, "pool": pool, "reasons": reasons, **of_pool})
        if self.spec.competes:
            self._compete(graded)
        if pools.relations.merge:
            graded = merge_answers(graded, pools, self._check)
        return pa.Table.from_pylist(graded, schema=CANDIDATE)

    def _check(self, row: Row) -> list[CheckResult]:
        if row["finish_reason"] != "stop":
            return []
        return run_checks(self.spec.section.checks, CheckInput.of(row, self.spec.specialist.unit(row["task_unit"])))

    def _is_audited(self, row: Row) -> bool:
        """Whether an answer is scored even if it failed a check: a share, by hash, shows if the judge agrees with the checks."""
        audit = self.spec.section.audit
        return bool(audit) and row["finish_reason"] == "stop" and int(row["answer_id"][:4], 16) < audit.rules * 16**4

    def _answers(
        self,
        rows: Sequence[Row],
        outcomes: Sequence[Sequence[CheckResult]],
        agreements: Sequence[float | None],
        sound: Sequence[bool],
    ) -> list[Answer]:
        others = other_teachers(rows, sound) if self.fused else [None] * len(rows)
        return [Answer(*each) for each in zip(rows, outcomes, agreements, others, strict=True)]

    def _judge_columns(self, answers: Sequence[Answer], is_scored: Sequence[bool]) -> list[Row]:
        """Return the judge's columns of each row, `budget_exhausted` and `judge_lost`."""
        judge, judged, decides = self.judge, {}, False
        if judge and any(is_scored):
            decides = self.judge_decides  # calibrates first if need be
            asked = {index: answer for index, answer in enumerate(answers) if is_scored[index]}
            judged = dict(zip(asked, self._judged(list(asked.values())), strict=True))
        return [
            {
                "judge": judge.name if judge and is_scored[index] else "",
                "score": scored.score,
                "confidence": confidence,
                "dimension_scores": list(scored.dimension_scores),
                "rubric_spread": scored.rubric_spread,
                "judge_decides": confidence is not None and decides,
                "budget_exhausted": scored.budget_exhausted,
                "judge_lost": scored.lost,
            }
            for index, (scored, confidence) in enumerate(judged.get(index, NOT_JUDGED) for index in range(len(answers)))
        ]

    def _judged(self, answers: Sequence[Answer]) -> list[Judged]:
        if self.fused:
            return self.fused(answers)
        assert self.judge
        scores = self.judge.score([_case(answer.row) for answer in answers])
        return [Judged(scored, self._confidence(scored.score)) for scored in scores]

    def _evidence(self, row: Row, outcomes: Sequence[CheckResult], relation: Relation) -> Evidence:
        to_review = self.spec.section.pools.relations.conflicts == "review" and not self.spec.competes
        decides = row["judge"] == "" or self.judge_decides  # not read where no answer was scored: reading it calibrates the judge
        return Evidence(
            row["answer"],
            row["finish_reason"],
            outcomes,
            row["agreement"],
            row["confidence"],
            is_judged=self.judge is not None and decides,
            budget_exhausted=row["budget_exhausted"] and decides,
            judge_lost=row["judge_lost"],
            judge_decides=decides,
            rubric_spread=row["rubric_spread"],
            difficulty=row["difficulty"] or "",
            relation=relation.relation,
            conflicts=relation.reasons if to_review else (),
        )

    def _confidence(self, score: float | None) -> float | None:
        if score is None or self.calibration is None:
            return score
        return float(probabilities(self.calibration.curve, np.array([score]))[0])

    @cached_property
    def calibration(self) -> JudgeCalibration | None:
        """The calibration of the judge, measured at the first score; None if the contract has no labelled items."""
        if self.fused:
            return self.fused.calibration
        return judge_calibration.calibrate(self.judge) if self.judge else None

    @property
    def judge_decides(self) -> bool:
        """Whether the confidence may decide."""
        return self.calibration is None or self.calibration.decides

    def _compete(self, rows: list[Row]) -> None:
        """Move answers that another answer to the same prompt beats to `contrast`."""
        decides = any(row["judge"] for row in rows) and self.judge_decides
        strength = self._strengths(rows) if self.judge and self.spec.section.ranking else {}
        losers = outranked(rows, strength if decides else {}, judge_decides=decides)
        for row in rows:
            if row["answer_id"] in losers:
                row.update(pool="contrast", reasons=["outranked"])

    def _strengths(self, rows: Sequence[Row]) -> dict[str, float]:
        """Return answer id -> strength among its competitors, and add it to their `dimension_scores`.

        Prompts whose comparisons the budget did not cover are left out.
        """
        ranking, rubric = self.spec.section.ranking, self.spec.section.ranker
        assert self.judge and ranking and rubric
        groups = list(competitors(rows, max_answers=ranking.max_answers, judge_decides=self.judge_decides).values())
        pairs = [(group, *order) for group in groups for order in permutations(range(len(group)), 2)]
        readings = self.judge.compare([Pair(_case(group[first]), group[second]["answer"]) for group, first, second in pairs])
        result: dict[str, float] = {}
        for group in groups:
            of_group = {
                (first, second): reading for (other, first, second), reading in zip(pairs, readings, strict=True) if other is group
            }
            if any(reading.budget_exhausted for reading in of_group.values()):
                continue
            values = strengths(len(group), {order: reply.probs for order, reply in of_group.items()})
            for row, value in zip(group, values, strict=True):
                result[row["answer_id"]] = value
                row["dimension_scores"].append({"rubric": rubric.name, "dimension": "pairs", "score": value})
        return result


def _case(row: Mapping[str, Any]) -> Case:
    return Case(row["prompt_id"], row["text"], row["answer"], row["reference"] or "", row["task_unit"])
