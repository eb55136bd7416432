"""Distributed grading on Ray Data: ANSWER rows in, CANDIDATE rows out."""

import pyarrow as pa
import ray.data

from engine.calibration import judge_calibration
from engine.contract.profile import Pool
from engine.distributed import stream
from engine.distributed.environment import importing
from engine.distributed.rows import Rows
from engine.grading.grader import Grader
from engine.judges.grader_spec import GraderSpec
from engine.judges.judge import Judge
from engine.records.judge import JudgeCalibration
from engine.scoring.scorer import Scorer, ScorerSpec


def grade(answers: Rows, spec: GraderSpec, pool: Pool) -> Rows:
    """Return CANDIDATE rows of ANSWER rows, graded while the teachers are still at work.

    Without a judge, or a check with a process of its own, there is nothing to keep, so tasks of `pool` grade: Ray Data makes one
    task of them and of the writing that follows on the same pool, which saves an actor and a copy of the rows.
    """
    if not (spec.has_judge or spec.section.keeps_processes):
        return stream.apply(answers, grade_by_checks, pool, spec=spec)
    if spec.pool.actors > 1:
        calibrate(spec)  # a single actor does it itself; several would each ask about the labelled items
    return stream.apply(answers, Grader, spec.pool, variables=importing(spec.libraries), spec=spec)


def grade_by_checks(answers: pa.Table, spec: GraderSpec) -> pa.Table:
    """ANSWER in, CANDIDATE out, where nothing is to be kept."""
    return Grader(spec)(answers)


def calibrate(spec: GraderSpec) -> JudgeCalibration | None:
    """Return the calibration of the judge, measured by one actor if the ledger has none; None without labelled items or a judge."""
    if not spec.has_judge or not spec.section.calibrate:
        return None
    judge = Judge(spec)
    if judge_calibration.load(judge) is None:
        pool = spec.pool.at_most(1)
        stream.apply(ray.data.from_items([{"calibrate": True}]), Calibrator, pool, spec=spec).materialize()
    return judge_calibration.load(judge)


class Calibrator:
    """Calibrates the judge when it gets a block, and returns the block unchanged."""

    def __init__(self, spec: GraderSpec) -> None:
        self.spec = spec

    def __call__(self, rows: pa.Table) -> pa.Table:
        assert Grader(self.spec).calibration
        return rows


def measure(candidates: Rows, spec: ScorerSpec, pool: Pool) -> Rows:
    """Return CANDIDATE rows with the signals of the contract; `pool` is used if no signal needs a model."""
    return stream.apply(candidates, Scorer, spec.client.pool if spec.client else pool, spec=spec)
