"""Room 3's door to Ray."""

import pyarrow as pa
import ray.data
from ray.data import Dataset

from engine.calibration import judge_calibration
from engine.calibration.judge_calibration import JudgeCalibration
from engine.contract.profile import Pool
from engine.distributed import stream
from engine.grading.grader import Grader
from engine.judges.grader_spec import GraderSpec
from engine.judges.judge import Judge
from engine.scoring.scorer import Scorer, ScorerSpec


def grade(answers: Dataset, bar: GraderSpec) -> Dataset:
    """ANSWER in, CANDIDATE out, at work while the teachers are."""
    if bar.pool.actors > 1:
        learn(bar)  # one alone: each of several would ask the same about the labelled items
    return stream.apply(answers, Grader, bar.pool, bar=bar)


def learn(bar: GraderSpec) -> JudgeCalibration | None:
    """Return what is known of the judge, learnt now by one actor if nobody has; None if the contract has nothing to learn from."""
    if not bar.section.rubrics or not bar.section.calibrate:
        return None
    judge = Judge(bar)
    if judge_calibration.learnt(judge) is None:
        pool = bar.pool.model_copy(update={"actors": 1})
        stream.apply(ray.data.from_items([{"learn": True}]), Learner, pool, bar=bar).materialize()
    return judge_calibration.learnt(judge)


class Learner:
    """Learns an instrument, and passes on what it is given."""

    def __init__(self, bar: GraderSpec) -> None:
        self.bar = bar

    def __call__(self, rows: pa.Table) -> pa.Table:
        judge_calibration.learn(Judge(self.bar))
        return rows


def measure(candidates: Dataset, spec: ScorerSpec, pool: Pool) -> Dataset:
    """CANDIDATE in, CANDIDATE with the signals that the contract asks for out; `pool` works where no model is asked."""
    return stream.apply(candidates, Scorer, spec.client.pool if spec.client else pool, spec=spec)
