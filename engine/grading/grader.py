"""Checks, agreement, rubrics, confidence, pool: ANSWER in, CANDIDATE out. What a model is asked is paid once and kept."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
import pyarrow as pa

from engine.calibration import judge_calibration
from engine.calibration.judge_calibration import JudgeCalibration
from engine.checks import Outcome, Seen, run_checks
from engine.grading.agreement import agreement
from engine.grading.cross_teacher import beside, merged
from engine.grading.rank import outranked, rivals, strengths
from engine.grading.relations import Related
from engine.grading.routing import Evidence, confidence_tier, is_sound, route
from engine.judges.grader_spec import GraderSpec
from engine.judges.judge import Judge, Pair, RubricScore
from engine.judges.rubric import Case
from engine.rows import ANSWER, CANDIDATE

NOT_ASKED = RubricScore()


class Grader:
    """ANSWER in, CANDIDATE out; all answers to a prompt must come in one block."""

    def __init__(self, bar: GraderSpec) -> None:
        self.bar = bar
        self.judge = Judge(bar) if bar.section.rubrics else None

    def __call__(self, answers: pa.Table) -> pa.Table:
        rows = answers.select(ANSWER.names).to_pylist()
        outcomes = [self._check(row) for row in rows]
        sound = [is_sound(row["finish_reason"], found) for row, found in zip(rows, outcomes, strict=True)]
        agreed = agreement([row["prompt_id"] + row["teacher"] for row in rows], [row["answer"] for row in rows], sound)
        asked = [one or self._is_shown_anyway(row) for one, row in zip(sound, rows, strict=True)]
        given = self._marked(rows, asked)
        pools = self.bar.section.pools
        related = beside(rows, sound, pools.relations)
        graded = []
        for index, row in enumerate(rows):
            verdict = {"checks": [one._asdict() for one in outcomes[index]], "agreement": agreed[index], **given[index]}
            seen = self._evidence(row | verdict, outcomes[index], related[index])
            trusted = verdict["confidence"] if verdict["judge_decides"] else None
            pool, reasons = route(seen, self.bar.section.accept, pools)
            settled = {"relation": related[index].relation, "confidence_tier": confidence_tier(trusted, pools), "parents": []}
            graded.append({**row, **verdict, "pool": pool, "reasons": reasons, **settled})
        if self.bar.competes:
            self._compete(graded)
        if pools.relations.merge:
            graded = merged(graded, pools, self._check)
        return pa.Table.from_pylist(graded, schema=CANDIDATE)

    def _check(self, row: dict[str, Any]) -> list[Outcome]:
        if row["finish_reason"] != "stop":
            return []
        return run_checks(self.bar.section.checks, Seen.of(row, self.bar.specialist.unit(row["task_unit"])))

    def _is_shown_anyway(self, row: dict[str, Any]) -> bool:
        """Whether the judge sees an answer that failed a check: some, by their hash, to see whether it agrees with the rules."""
        audit = self.bar.section.audit
        return bool(audit) and row["finish_reason"] == "stop" and int(row["answer_id"][:4], 16) < audit.rules * 16**4

    def _marked(self, rows: Sequence[dict[str, Any]], asked: Sequence[bool]) -> list[dict[str, Any]]:
        """Return the judge's columns of each row, and `budget_exhausted`."""
        judge, given, gates = self.judge, {}, False
        if judge and any(asked):
            gates = self.gates  # learnt before anything is decided
            cases = {index: _case(row) for index, row in enumerate(rows) if asked[index]}
            given = dict(zip(cases, judge.score(list(cases.values())), strict=True))
        return [
            {
                "judge": judge.name if judge and asked[index] else "",
                "score": marked.score,
                "confidence": self._confidence(marked.score),
                "dimension_scores": list(marked.dimension_scores),
                "rubric_spread": marked.rubric_spread,
                "judge_decides": marked.score is not None and gates,
                "budget_exhausted": marked.budget_exhausted,
            }
            for index, marked in enumerate(given.get(index, NOT_ASKED) for index in range(len(rows)))
        ]

    def _evidence(self, row: dict[str, Any], outcomes: Sequence[Outcome], related: Related) -> Evidence:
        waits = self.bar.section.pools.relations.conflicts == "review" and not self.bar.competes
        gates = row["judge"] == "" or self.gates  # who asked no judge learns nothing about it
        return Evidence(
            row["answer"],
            row["finish_reason"],
            outcomes,
            row["agreement"],
            row["confidence"],
            is_judged=self.judge is not None and gates,
            budget_exhausted=row["budget_exhausted"] and gates,
            gates=gates,
            rubric_spread=row["rubric_spread"],
            difficulty=row["difficulty"] or "",
            relation=related.relation,
            conflicts=related.reasons if waits else (),
        )

    def _confidence(self, score: float | None) -> float | None:
        if score is None or self.instrument is None:
            return score
        return float(self.instrument.curve(np.array([score]))[0])

    @cached_property
    def instrument(self) -> JudgeCalibration | None:
        """What is known of this very judge, learnt when it first has to mark; None if the contract has no labelled items."""
        return judge_calibration.learn(self.judge) if self.judge else None

    @property
    def gates(self) -> bool:
        """Whether the confidence may decide."""
        return self.instrument is None or self.instrument.gates

    def _compete(self, rows: list[dict[str, Any]]) -> None:
        """Send what another answer to the same prompt beats to `contrast`."""
        gates = any(row["judge"] for row in rows) and self.gates
        strength = self._strengths(rows) if self.judge and self.bar.section.ranking else {}
        lost = outranked(rows, strength if gates else {}, is_gated=gates)
        for row in rows:
            if row["answer_id"] in lost:
                row.update(pool="contrast", reasons=["outranked"])

    def _strengths(self, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
        """Return answer id -> how strong it is beside its rivals, written among its marks; nothing of what is not paid for."""
        ranking, rubric = self.bar.section.ranking, self.bar.section.ranker
        assert self.judge and ranking and rubric
        groups = list(rivals(rows, most=ranking.most, is_gated=self.gates).values())
        pairs = [(group, *order) for group in groups for order in permutations(range(len(group)), 2)]
        said = self.judge.compare([Pair(_case(group[first]), group[second]["answer"]) for group, first, second in pairs])
        found: dict[str, float] = {}
        for group in groups:
            won = {(first, second): one for (theirs, first, second), one in zip(pairs, said, strict=True) if theirs is group}
            if any(one.budget_exhausted for one in won.values()):
                continue
            strong = strengths(len(group), {order: one.probs for order, one in won.items()})
            for row, one in zip(group, strong, strict=True):
                found[row["answer_id"]] = one
                row["dimension_scores"].append({"rubric": rubric.name, "dimension": "pairs", "score": one})
        return found


def _case(row: Mapping[str, Any]) -> Case:
    return Case(row["prompt_id"], row["text"], row["answer"], row["reference"] or "", row["task_unit"])
